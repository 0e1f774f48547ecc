"""The options commands share, and loading a runtime with them. It knows no command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from aquila2_runtime.cli.failures import wrong
from aquila2_runtime.cli.terminal import ProgressLine
from aquila2_runtime.cli.texts import file_text
from aquila2_runtime.grammar import Choice, Constraint, JsonSchema, Regex
from aquila2_runtime.runtime import Aquila2Runtime

DEMO: Final = "aquila2-demo"

_LOADING: Final = "Loading"
_ANSWERING: Final = "Answering"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A released name (AquilaChat2-7B), owner/name on a hub, or a directory.",
    ),
]
Quantization = Annotated[str | None, typer.Option(help="nf4 or int8.", rich_help_panel=_LOADING)]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda, cuda:N, or cuda:N,cuda:M,...", rich_help_panel=_LOADING),
]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, float16 or bfloat16.", rich_help_panel=_LOADING)
]
MaxModelLen = Annotated[
    int | None,
    typer.Option(help="Tokens of prompt and answer together.", rich_help_panel=_LOADING),
]
KvCacheDtype = Annotated[
    str | None,
    typer.Option(help="Of keys and values: int8 takes half of 16 bits.", rich_help_panel=_LOADING),
]
KvCacheMemory = Annotated[
    str | None,
    typer.Option(help="Bytes for keys and values, such as 4GiB.", rich_help_panel=_LOADING),
]
Template = Annotated[
    str | None,
    typer.Option(
        help="Chat template, where the checkpoint is not a released one.", rich_help_panel=_LOADING
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit.", rich_help_panel=_LOADING)
]
Source = Annotated[
    str | None, typer.Option(help="huggingface or modelscope.", rich_help_panel=_LOADING)
]
CacheDir = Annotated[
    Path | None, typer.Option(help="Where downloads are kept.", rich_help_panel=_LOADING)
]
Pickle = Annotated[
    bool,
    typer.Option(
        "--pickle/--no-pickle",
        help="Whether .bin weights may be read (never running code).",
        rich_help_panel=_LOADING,
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Use what is on this machine; ask no hub.", rich_help_panel=_LOADING
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Have a server compute it: aquila2 serve or vLLM, as http://host:8000/v1. Its key is "
        "read from AQUILA2_REMOTE_API_KEY.",
        rich_help_panel=_LOADING,
    ),
]
RemoteModel = Annotated[
    str | None,
    typer.Option(
        help="The model's name at that server, if it has several.", rich_help_panel=_LOADING
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(help="Most new tokens; as many as fit if left out.", rich_help_panel=_ANSWERING),
]
Temperature = Annotated[
    float, typer.Option(help="0 takes the likeliest token each time.", rich_help_panel=_ANSWERING)
]
TopP = Annotated[float, typer.Option(help="Nucleus sampling.", rich_help_panel=_ANSWERING)]
TopK = Annotated[int, typer.Option(help="Only the k likeliest.", rich_help_panel=_ANSWERING)]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="Text that ends the answer; may repeat.", rich_help_panel=_ANSWERING),
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same text.", rich_help_panel=_ANSWERING)]
_FORM: Final = "Form of the answer"
SchemaFile = Annotated[
    Path | None,
    typer.Option(help="A JSON schema that the answer follows.", rich_help_panel=_FORM),
]
Pattern = Annotated[
    str | None, typer.Option(help="A regular expression it matches.", rich_help_panel=_FORM)
]
Choices = Annotated[
    list[str] | None,
    typer.Option("--choice", help="A text it may be; may repeat.", rich_help_panel=_FORM),
]
System = Annotated[str | None, typer.Option(help="The system message.")]
Document = Annotated[
    list[Path] | None, typer.Option(help="A UTF-8 text file to answer from; may repeat.")
]
QuestionFirst = Annotated[
    bool,
    typer.Option(
        "--question-first",
        help="The question before the documents, as BAAI advises for the 16K models.",
    ),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Continue the text as it is, without a chat template.")
]
Fit = Annotated[
    str | None,
    typer.Option(help="Shorten what is too long: drop_oldest or middle; refused otherwise."),
]
RawOutput = Annotated[
    bool, typer.Option("--raw-output", help="Leave control sequences in the model's text.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def constraint(
    schema: Path | None, pattern: str | None, choices: list[str] | None
) -> Constraint | None:
    """What the answer must look like, by at most one of the three options."""
    if sum(given is not None for given in (schema, pattern, choices or None)) > 1:
        raise wrong("--json-schema, --regex and --choice exclude each other.")
    if pattern is not None:
        return Regex(pattern)
    if choices:
        return Choice(tuple(choices))
    if schema is None:
        return None
    try:
        found = json.loads(file_text(schema))
    except (OSError, ValueError, RecursionError) as error:
        raise wrong(f"{schema} holds no JSON: {error}") from error
    return JsonSchema(found)


def devices(value: str) -> str | list[str]:
    """One device, or several that are separated by commas."""
    return value.split(",") if "," in value else value


def load(model: str, *, quiet: bool, **options: Any) -> Aquila2Runtime:
    """Load with progress on stderr; options that are None keep the runtime's own default."""
    given = {name: value for name, value in options.items() if value is not None}
    if "base_url" in given:
        given["engine"] = "openai"
    with ProgressLine(quiet=quiet) as progress:
        return Aquila2Runtime.load(model, progress=progress, **given)

"""``aquila2 generate``: one prompt, one answer, as text or JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from aquila2_runtime.cli import options
from aquila2_runtime.cli.failures import reported, wrong
from aquila2_runtime.cli.terminal import ProgressLine, TerminalText, note, say, to_json
from aquila2_runtime.cli.texts import file_text, input_text
from aquila2_runtime.message import Message
from aquila2_runtime.outputs import RequestOutput
from aquila2_runtime.runtime import Aquila2Runtime
from aquila2_runtime.sampling import SamplingParams


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="The question; standard input if left out or '-'.")
    ] = None,
    model: options.Model = options.DEMO,
    system: options.System = None,
    document: options.Document = None,
    question_first: options.QuestionFirst = False,
    raw: options.Raw = False,
    fit: options.Fit = None,
    json_schema: options.SchemaFile = None,
    regex: options.Pattern = None,
    choice: options.Choices = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    top_k: options.TopK = 0,
    stop: options.Stop = None,
    seed: options.Seed = None,
    quantization: options.Quantization = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_model_len: options.MaxModelLen = None,
    kv_cache_dtype: options.KvCacheDtype = None,
    kv_cache_memory: options.KvCacheMemory = None,
    template: options.Template = None,
    revision: options.Revision = None,
    source: options.Source = None,
    cache_dir: options.CacheDir = None,
    pickle: options.Pickle = True,
    offline: options.Offline = False,
    base_url: options.BaseUrl = None,
    remote_model: options.RemoteModel = None,
    raw_output: options.RawOutput = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Answer one prompt and print the answer as it is made."""
    with reported(debug=debug):
        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=stop,
            seed=seed,
            constraint=options.constraint(json_schema, regex, choice),
        )
        asked = _asked(prompt, system, document or [], raw=raw, question_first=question_first)
        loaded = options.load(
            model,
            quiet=quiet,
            quantization=quantization,
            device=options.devices(device),
            dtype=dtype,
            max_model_len=max_model_len,
            kv_cache_dtype=kv_cache_dtype,
            kv_cache_memory=kv_cache_memory,
            template=template,
            revision=revision,
            source=source,
            cache_dir=cache_dir,
            allow_pickle=pickle,
            offline=offline,
            base_url=base_url,
            remote_model=remote_model,
        )
        with loaded as runtime, ProgressLine(quiet=quiet) as progress:
            request: dict[str, Any] = {"progress": progress, "fit": fit}
            if as_json:
                _print_json(runtime, asked, params, request)
            else:
                _print_text(runtime, asked, params, request, raw_output=raw_output)


def _asked(
    prompt: str | None,
    system: str | None,
    documents: list[Path],
    *,
    raw: bool,
    question_first: bool,
) -> str | list[Message]:
    """Text to continue, or a conversation to answer."""
    if raw and (system is not None or documents):
        raise wrong(
            "--raw continues text as it is; --system and --document need the chat template."
        )
    if question_first and not documents:
        raise wrong("--question-first says where the question stands: give a --document too.")
    text = _text(prompt, documents, question_first=question_first)
    return text if raw else _messages(system, text)


def _text(prompt: str | None, documents: list[Path], *, question_first: bool) -> str:
    """The documents and the question, in the order in which they are shown."""
    if prompt is None or prompt == "-":
        prompt = input_text()
        if prompt is None:
            raise wrong(
                "There is no prompt.", 'Give one: aquila2 generate "…", or pipe it to stdin.'
            )
    shown = [file_text(path).strip() for path in documents]
    return "\n\n".join([prompt, *shown] if question_first else [*shown, prompt])


def _messages(system: str | None, text: str) -> list[Message]:
    before = [] if system is None else [Message("system", system)]
    return [*before, Message("user", text)]


def _print_text(
    runtime: Aquila2Runtime,
    asked: str | list[Message],
    params: SamplingParams,
    request: dict[str, Any],
    *,
    raw_output: bool,
) -> None:
    shown = TerminalText(raw=raw_output)
    stream = (
        runtime.stream_complete(asked, params, **request)
        if isinstance(asked, str)
        else runtime.stream_chat(asked, params, **request)
    )
    notices: tuple[str, ...] = ()
    for delta in stream:
        say(shown.feed(delta.text), end="")
        notices = delta.notices or notices
    say(shown.finish())
    for notice in notices:
        note(f"note: {notice}")


def _print_json(
    runtime: Aquila2Runtime,
    asked: str | list[Message],
    params: SamplingParams,
    request: dict[str, Any],
) -> None:
    output = (
        runtime.complete(asked, params, **request)
        if isinstance(asked, str)
        else runtime.chat(asked, params, **request)
    )
    say(to_json(_as_dict(output, runtime)))


def _as_dict(output: RequestOutput, runtime: Aquila2Runtime) -> dict[str, Any]:
    return {
        "model": output.model,
        "revision": runtime.info.revision,
        "text": output.text,
        "finish_reason": str(output.finish_reason),
        "stop_reason": output.stop_reason,
        "token_ids": list(output.token_ids),
        "usage": dataclasses.asdict(output.usage),
        "seconds": dataclasses.asdict(output.timings),
        "notices": list(output.notices),
    }

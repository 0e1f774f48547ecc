"""What importing the packages does, seen from fresh interpreters, and the names they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ("torch", "transformers", "tokenizers", "huggingface_hub", "safetensors", "accelerate")
FRAMEWORKS = {
    "aquila2_runtime": "json",
    "langchain_aquila2": "langchain_core.language_models",
    "llamaindex_aquila2": "llama_index.core.llms.function_calling",
}

RUNTIME_NAMES = [
    "AnyJson",
    "Aquila2Error",
    "Aquila2Runtime",
    "CheckpointError",
    "Choice",
    "CompletionOutput",
    "ConfigError",
    "ContextOverflowError",
    "Delta",
    "DownloadError",
    "EngineBusyError",
    "EngineClosedError",
    "EngineDeadError",
    "EngineError",
    "FinishReason",
    "GenerationError",
    "InsufficientMemoryError",
    "InvalidConstraintError",
    "InvalidLoadOptionError",
    "InvalidPromptError",
    "InvalidRequestError",
    "InvalidSamplingParamsError",
    "InvalidToolCall",
    "JsonSchema",
    "LarkGrammar",
    "Message",
    "MissingDependencyError",
    "ModelFacts",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "Regex",
    "RequestOutput",
    "RequestTimeoutError",
    "RuntimeLease",
    "SamplingParams",
    "ServerError",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "TokenizerError",
    "Tool",
    "ToolCall",
    "ToolCallParser",
    "ToolCallPiece",
    "UnknownParameterError",
    "UnsupportedContentError",
    "Usage",
    "WeightsError",
    "__version__",
    "json_instruction",
    "register",
]

# Watches the interpreter's own audit events: files opened for writing, and sockets.
WATCH = """
import json, sys
seen = []
def watch(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"write {args[0]}")
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen"):
        seen.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
__import__(sys.argv[1])
heavy = [name for name in sys.argv[2:] if name in sys.modules]
print(json.dumps({"seen": seen, "heavy": heavy}))
"""


def imported(module: str, tmp_path: Path) -> dict[str, list[str]]:
    """Import a module in a fresh interpreter in an empty directory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WATCH, module, *HEAVY],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_importing_a_package_loads_no_heavy_library_of_its_own_accord(
    package: str, tmp_path: Path
) -> None:
    """A10: whatever is loaded beyond the framework alone would be ours."""
    ours = imported(package, tmp_path)
    framework = imported(FRAMEWORKS[package], tmp_path)
    assert set(ours["heavy"]) <= set(framework["heavy"])
    assert "torch" not in ours["heavy"]


@pytest.mark.parametrize("package", FRAMEWORKS)
def test_importing_a_package_opens_no_socket_and_writes_no_file(
    package: str, tmp_path: Path
) -> None:
    """A9: nor does it start a process; what the framework alone does is not counted."""
    ours = imported(package, tmp_path)
    framework = imported(FRAMEWORKS[package], tmp_path)
    assert [event for event in ours["seen"] if event not in framework["seen"]] == []
    if package == "aquila2_runtime":
        assert ours["seen"] == []


def test_the_watcher_sees_a_heavy_import(tmp_path: Path) -> None:
    assert "tokenizers" in imported("tokenizers", tmp_path)["heavy"]


def test_the_runtime_exports_exactly_its_promised_names() -> None:
    import aquila2_runtime

    assert sorted(aquila2_runtime.__all__) == sorted(RUNTIME_NAMES)
    for name in aquila2_runtime.__all__:
        assert getattr(aquila2_runtime, name) is not None


def test_the_adapters_export_exactly_their_promised_names() -> None:
    import langchain_aquila2
    import llamaindex_aquila2

    assert {"ChatAquila2", "Aquila2LLM"} <= set(langchain_aquila2.__all__)
    names = {"ChatAquila2", "Aquila2LLM", "__version__", "register"}
    assert set(langchain_aquila2.__all__) <= names
    assert {"Aquila2"} <= set(llamaindex_aquila2.__all__) <= {"Aquila2", "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    import aquila2_runtime

    with pytest.raises(AttributeError, match="no attribute 'Aquila3Runtime'"):
        aquila2_runtime.Aquila3Runtime  # noqa: B018

"""ChatHuggingFace over aquila2-demo: LangChain's standard suites, and what they do not look at.

It needs an environment of its own, with langchain-huggingface, langchain-tests and this checkout on
the path; nothing of it is needed to use or to test this project:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.chat_huggingface --out FILE.json

The tokenizer is given the checkpoint's own chat form, which no released file has.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.metadata
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_core.messages import HumanMessage
from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

import aquila2_runtime
from benchmarks.report import tell

DEMO = Path(aquila2_runtime.__file__).parent / "demo"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}</s>"
    "{% else %}<|startofpiece|>{{ m['content'] }}<|endofpiece|>{% endif %}{% endfor %}"
)
QUESTION = "What is the capital of France?"
PACKAGES = ("langchain-core", "langchain-huggingface", "langchain-tests", "transformers", "torch")


@functools.cache
def parts() -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    aquila2_runtime.register()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.chat_template = TEMPLATE
    return AutoModelForCausalLM.from_pretrained(DEMO), tokenizer


def make(**fields: Any) -> ChatHuggingFace:
    """A chat model over one pipeline."""
    from transformers import pipeline

    model, tokenizer = parts()
    made = pipeline("text-generation", model=model, tokenizer=tokenizer, max_new_tokens=64)
    return ChatHuggingFace(llm=HuggingFacePipeline(pipeline=made), tokenizer=tokenizer, **fields)


class Both:
    """The same capabilities as our own tests declare."""

    chat_model_class = ChatHuggingFace
    supports_json_mode = True
    supports_anthropic_inputs = True

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """A pipeline and its tokenizer."""
        return {"llm": make().llm, "tokenizer": parts()[1]}


class TestUnit(Both, ChatModelUnitTests):
    """The unit suite."""


class TestIntegration(Both, ChatModelIntegrationTests):
    """The integration suite."""

    supported_usage_metadata_details: ClassVar[Any] = {
        way: ["cache_read_input", "cache_creation_input"] for way in ("invoke", "stream")
    }
    supports_model_override = True
    model_override_value = "another-checkpoint"
    enable_vcr_tests = True

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> Any:
        """Ask what may be found in a cache."""
        if not stream:
            return make().invoke(QUESTION)
        return functools.reduce(lambda one, other: one + other, make().stream(QUESTION))

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> Any:
        """Ask what may be put into a cache."""
        return self.invoke_with_cache_read_input(stream=stream)


class Counted:
    """Counts outcomes of a run of pytest."""

    def __init__(self) -> None:
        self.found: dict[str, Counter[str]] = {"TestUnit": Counter(), "TestIntegration": Counter()}
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one test's outcome."""
        if report.when == "call" or (report.when == "setup" and not report.passed):
            suite, name = report.nodeid.split("::")[1:]
            self.found[suite][report.outcome] += 1
            if report.failed:
                lines = str(report.longreprtext).strip().splitlines()
                self.failed[f"{suite}::{name}"] = next(
                    (line[2:200] for line in lines if line.startswith("E  ")), lines[-1][:200]
                )


class Forwards:
    """Counts the model's forward passes and their rows."""

    def __init__(self, model: Any) -> None:
        self.rows: list[int] = []
        self._handle = model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        self.rows.append(0 if ids is None else int(ids.shape[0]))

    def close(self) -> None:
        """Count no more."""
        self._handle.remove()


def tried(ask: Callable[[], Any]) -> str:
    """What came of a call, in short."""
    try:
        return repr(ask())[:300]
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]


def behaviours() -> Iterator[tuple[str, Any]]:
    """Yield what users of a chat model look at, each with what was seen."""
    chat, (model, _) = make(), parts()

    async def streamed() -> list[Any]:
        return [chunk async for chunk in chat.astream(QUESTION)]

    def text(**keywords: Any) -> str:
        return "".join(str(chunk.content) for chunk in chat.stream(QUESTION, **keywords))

    def counted(ask: Callable[[], Any]) -> dict[str, Any]:
        forwards = Forwards(model)
        seen = tried(ask)
        forwards.close()
        return {"forwards": len(forwards.rows), "rows at most": max(forwards.rows), "seen": seen}

    free = text()
    message = chat.invoke(QUESTION)
    human = HumanMessage(QUESTION)
    image = {"type": "image_url", "image_url": {"url": "http://example.invalid/x.png"}}
    bound, forced = chat.bind_tools([weather]), chat.bind_tools([weather], tool_choice="any")
    yield "prompt echoed by invoke", QUESTION in str(message.content)
    yield "stopped by invoke", free not in str(chat.invoke(QUESTION, stop=[free[1:4]]).content)
    yield "stopped by stream", text(stop=[free[1:4]]) != free
    yield "max_tokens=3, constructor", counted(lambda: make(max_tokens=3).invoke("Tell a story"))
    yield "max_tokens=3, call", counted(lambda: chat.invoke("Tell a story", max_tokens=3))
    yield "ainvoke", tried(lambda: asyncio.run(chat.ainvoke(QUESTION)))
    yield "astream", tried(lambda: asyncio.run(streamed()))
    yield "abatch", tried(lambda: asyncio.run(chat.abatch([QUESTION])))
    yield "usage_metadata", repr(message.usage_metadata)
    yield "response_metadata", repr(message.response_metadata)
    yield "answers of n=2", len(chat.generate([[human]], n=2).generations[0])
    yield "logprobs=True", repr(chat.invoke(QUESTION, logprobs=True).response_metadata)
    yield "batch of 8", counted(lambda: chat.batch([f"{QUESTION} {n}" for n in range(8)]))
    yield "stream closed early", closed(chat, model)
    yield "image", tried(lambda: chat.invoke([HumanMessage([image])]))
    yield "tokens of a message", tried(lambda: chat.get_num_tokens_from_messages([human]))
    yield "tools, auto", tried(lambda: bound.invoke("Weather in Paris?").tool_calls)
    yield "tools, any", tried(lambda: forced.invoke("Weather in Paris?").tool_calls)
    yield "cache tells settings apart", chat._get_llm_string() != other()._get_llm_string()
    yield "profile", tried(lambda: chat.profile)
    yield "pickled bytes", tried(lambda: len(pickle.dumps(chat)))


def weather(city: str) -> str:
    """Get the weather of a city."""
    return f"{city}: sunny"


def other() -> ChatHuggingFace:
    """A model of other settings."""
    from transformers import pipeline

    model, tokenizer = parts()
    made = pipeline("text-generation", model=model, tokenizer=tokenizer, max_new_tokens=7)
    llm = HuggingFacePipeline(pipeline=made, pipeline_kwargs={"top_k": 3})
    return ChatHuggingFace(llm=llm, tokenizer=tokenizer)


def closed(chat: ChatHuggingFace, model: Any) -> dict[str, int]:
    """Forward passes when a stream is closed after its first chunk, and three seconds later."""
    forwards = Forwards(model)
    stream = chat.stream("Tell me a long story about everything")
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    at_close = len(forwards.rows)
    time.sleep(3)
    later = len(forwards.rows)
    forwards.close()
    return {"at close": at_close, "three seconds later": later}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    counted = Counted()
    file = str(Path(__file__))
    quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null", "--tb=short"]
    pytest.main([*quiet, "-o", "asyncio_mode=auto", "--import-mode=importlib", file], [counted])
    result = {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "suites": {name: dict(found) for name, found in counted.found.items()},
        "failed": counted.failed,
        "behaviours": dict(behaviours()),
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()

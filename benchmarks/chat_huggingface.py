"""ChatHuggingFace over aquila2-demo: LangChain's standard suites, and what they do not look at.

It needs an environment of its own, with langchain-huggingface, langchain-tests and this checkout on
the path; nothing of it is needed to use or to test this project:

    PYTHONPATH=. OTHER/bin/python -m benchmarks.chat_huggingface --out FILE.json
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import sys
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_huggingface import ChatHuggingFace
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from benchmarks.peers.huggingface import QUESTION, make, parts
from benchmarks.peers.huggingface_rows import behaviours
from benchmarks.report import tell

PACKAGES = ("langchain-core", "langchain-huggingface", "langchain-tests", "transformers", "torch")


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

"""LangChain's own integration suite for chat models, over the demo checkpoint."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests

from aquila2_runtime import Aquila2Runtime
from langchain_aquila2 import ChatAquila2
from tests.conftest import EMBEDDED, find_demo

OTHER = "another-checkpoint"


@pytest.fixture(scope="module")
def other_checkpoint(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second checkpoint, for the tests that name another model in a call."""
    return Path(
        shutil.copytree(
            demo_path,
            tmp_path_factory.mktemp("models") / OTHER,
            ignore=shutil.ignore_patterns("*.py", "__pycache__"),
        )
    )


# Nothing here is HTTP to record, so test_stream_time streams without timing itself.
@pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
class Standard(ChatModelIntegrationTests):
    """All 50, with every capability that is not an image, a PDF or a sound."""

    method = "json_schema"

    @pytest.fixture(autouse=True)
    def models_at_hand(
        self,
        demo_runtime: Aquila2Runtime,
        other_checkpoint: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Keep the demo loaded, and make the second checkpoint's name a relative path."""
        monkeypatch.chdir(other_checkpoint.parent)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAquila2

    @property
    def chat_model_params(self) -> dict[str, Any]:
        found = find_demo()
        model = "aquila2-demo" if found == EMBEDDED else str(found)
        # Named, because the second checkpoint is not a released one, whose template is known.
        return {
            "model": model,
            "device": "cpu",
            "template": "aquila-v1",
            "max_tokens": 96,
            "temperature": 0,
        }

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": self.method}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        details = ["cache_read_input", "cache_creation_input"]
        return {"invoke": details, "stream": details}

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER

    @property
    def enable_vcr_tests(self) -> bool:
        return True

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """The same long prompt again: the suite asks for no less than 0, we for more."""
        prompt = f"{uuid.uuid4()} " + "The harbour office moved to the third floor. " * 8
        first, again = self._ask(prompt, stream=stream), self._ask(prompt, stream=stream)
        assert first.usage_metadata is not None and again.usage_metadata is not None
        assert again.usage_metadata["input_token_details"]["cache_read"] > 0
        created = first.usage_metadata["input_token_details"]["cache_creation"]
        assert again.usage_metadata["input_token_details"]["cache_read"] >= created
        return again

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> AIMessage:
        """A prompt nobody asked before."""
        prompt = f"{uuid.uuid4()} " + "The harbour office moved to the third floor. " * 8
        answer = self._ask(prompt, stream=stream)
        assert answer.usage_metadata is not None
        assert answer.usage_metadata["input_token_details"]["cache_creation"] > 0
        return answer

    def _ask(self, prompt: str, *, stream: bool) -> AIMessage:
        model = ChatAquila2(**{**self.chat_model_params, "max_tokens": 2})
        if not stream:
            return model.invoke(prompt)
        whole: AIMessageChunk | None = None
        for chunk in model.stream(prompt):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        return whole


class TestStandardJsonSchema(Standard):
    """Structured output by its default method."""


@pytest.mark.slow
class TestStandardFunctionCalling(Standard):
    """Structured output by one call of one tool."""

    method = "function_calling"


@pytest.mark.slow
class TestStandardJsonMode(Standard):
    """Structured output by JSON mode."""

    method = "json_mode"

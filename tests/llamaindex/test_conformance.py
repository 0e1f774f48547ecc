"""The conformance suite on the demo checkpoint, as a user of the suite would run it on a class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.memory import ChatMemoryBuffer

from aquila2_runtime import Aquila2Runtime, ContextOverflowError, GenerationError, Message, Regex
from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2._messages import to_runtime_messages
from llamaindex_aquila2.conformance import LLMConformance
from llamaindex_aquila2.conformance.suite import Prompt
from tests.llamaindex.scripted import scripted_runtime
from tests.llamaindex.support import wait_until_idle


class TestAquila2(LLMConformance):
    """Every point, on a model whose weights stay loaded from test to test."""

    @pytest.fixture(autouse=True)
    def loaded(self, spec: dict[str, Any], demo_runtime: Aquila2Runtime) -> None:
        self.spec, self.runtime = spec, demo_runtime

    @property
    def llm_class(self) -> type[Aquila2]:
        return Aquila2

    @property
    def llm_params(self) -> dict[str, Any]:
        return {**self.spec, "temperature": 0}

    def exact_fields(self, tokens: int) -> Mapping[str, Any]:
        return {"ignore_eos": True}

    def saying(self, text: str) -> tuple[Aquila2, dict[str, Any]]:
        llm = Aquila2(**self.llm_params, max_tokens=64)
        return llm, {"constraint": Regex(re.escape(text))}

    def failing(self) -> tuple[Aquila2, type[Exception]]:
        runtime, engine = scripted_runtime(self.runtime, self.window, 0)
        engine.failure = GenerationError("The forward pass failed.")
        return Aquila2.from_runtime(runtime), GenerationError

    @property
    def window(self) -> int:
        return self.runtime.info.max_model_len

    @property
    def overflow_error(self) -> type[Exception]:
        return ContextOverflowError

    def count_tokens(self, text: str) -> int:
        return self.runtime.count_tokens(text)

    def prompt_tokens(self, llm: Any, prompt: Prompt) -> int:
        said = [Message("user", prompt)] if isinstance(prompt, str) else prompt
        messages = said if isinstance(prompt, str) else to_runtime_messages(said, llm.system_prompt)
        return len(self.runtime.render(messages))

    def prepare(self, llm: Any) -> None:
        llm.use_as_default()

    def prompt_helper(self, llm: Any) -> PromptHelper:
        return llm.prompt_helper()

    def chat_memory(self, llm: Any) -> ChatMemoryBuffer:
        return llm.chat_memory()

    def work(self, llm: Any) -> float:
        return self.runtime.stats().tokens_computed

    def settle(self, llm: Any) -> None:
        wait_until_idle(self.runtime)

    def weights(self, llm: Any) -> object:
        return llm.runtime

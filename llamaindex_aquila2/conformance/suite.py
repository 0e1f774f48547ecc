"""Suite: what the tests know of the LLM class under test. It tests nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms.llm import LLM
from llama_index.core.memory import ChatMemoryBuffer

Prompt = str | Sequence[ChatMessage]


class Suite:
    """What a subclass says of its LLM class; only ``llm_class`` has no default.

    Attributes:
        patience: Seconds within which an error must reach who waits for the answer.
        most_loop_pause: Seconds for which calls that run may hold an event loop up.
        most_cost_of_eight: What eight equal calls at once may cost, in calls.
    """

    patience: float = 1.0
    most_loop_pause: float = 0.05
    most_cost_of_eight: float = 2.5
    _costs: ClassVar[dict[type, float]] = {}

    # The class and its objects

    @property
    def llm_class(self) -> type[LLM]:
        """The class under test."""
        msg = f"{type(self).__name__} must say which llm_class it tests"
        raise NotImplementedError(msg)

    @property
    def llm_params(self) -> dict[str, Any]:
        """What every object is constructed with; answers must be greedy."""
        return {}

    @property
    def limit(self) -> str:
        """Name of the constructor's field, and of the keyword, for the most new tokens."""
        return "max_tokens"

    def exact_fields(self, tokens: int) -> Mapping[str, Any]:
        """Fields that make an answer go on until it has so many tokens; none by default."""
        return {}

    def random_keywords(self, seed: int) -> dict[str, Any]:
        """Keywords of a call that draw tokens at random, the same ones for the same seed."""
        return {"temperature": 2.0, "top_p": 1.0, "seed": seed}

    def at_most(self, tokens: int, **fields: Any) -> LLM:
        """A model whose answers have at most so many tokens."""
        return self.llm_class(**{**self.llm_params, self.limit: tokens, **fields})

    def exactly(self, tokens: int, **fields: Any) -> LLM:
        """A model whose answers have so many tokens."""
        return self.at_most(tokens, **{**self.exact_fields(tokens), **fields})

    def saying(self, text: str) -> tuple[LLM, dict[str, Any]]:
        """A model, and keywords of a call, whose answer is a text; skipped where there is none."""
        pytest.skip("saying() is not overridden: no model says what it is told")

    def failing(self) -> tuple[LLM, type[Exception]]:
        """A model whose work fails after a call was accepted, and the error."""
        pytest.skip("failing() is not overridden: no model is known to fail")

    # Its context

    @property
    def window(self) -> int:
        """Tokens of the whole context, template and answer included."""
        return self.at_most(8).metadata.context_window

    @property
    def overflow_error(self) -> type[Exception]:
        """What a prompt that is too long raises."""
        return ValueError

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the model's own tokenizer."""
        pytest.skip("count_tokens() is not overridden")

    def prompt_tokens(self, llm: LLM, prompt: Prompt) -> int:
        """Tokens of a whole prompt: a conversation, or a text for ``complete``."""
        pytest.skip("prompt_tokens() is not overridden")

    def prepare(self, llm: LLM) -> None:
        """Set LlamaIndex up for a model, as the class's documentation says."""
        Settings.llm = llm

    def prompt_helper(self, llm: LLM) -> PromptHelper:
        """A prompt helper for a model."""
        return PromptHelper.from_llm_metadata(llm.metadata)

    def chat_memory(self, llm: LLM) -> ChatMemoryBuffer:
        """A chat memory for a model."""
        return ChatMemoryBuffer.from_defaults(llm=llm)

    # What it costs

    def work(self, llm: LLM) -> float:
        """What was computed so far, in any unit; by default this process's seconds."""
        return time.process_time()

    def settle(self, llm: LLM) -> None:
        """Wait until nothing is computed any more; by default until this process rests."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            before = time.process_time()
            time.sleep(0.3)
            if time.process_time() - before < 0.03:
                return
        pytest.fail("something is still being computed after a minute")

    def cost_of_a_hundred(self) -> float:
        """Work of an answer of a hundred tokens; measured once per class."""
        if type(self) not in self._costs:
            llm = self.exactly(100)
            llm.complete("Hello")
            before = self.work(llm)
            llm.complete("Hello again")
            self._costs[type(self)] = self.work(llm) - before
        return self._costs[type(self)]

    def weights(self, llm: LLM) -> object | None:
        """The object that holds the weights; None where one cannot tell."""
        return None

    @pytest.fixture(autouse=True)
    def llama_index_settings(self) -> Iterator[None]:
        """Put LlamaIndex's process-wide settings back after each test."""
        import llama_index.core

        kept = dict(vars(Settings))
        tokenizer = llama_index.core.global_tokenizer
        # LlamaIndex opens a loop in this thread where there is none, and leaves it open.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        yield
        asyncio.set_event_loop(None)
        loop.close()
        vars(Settings).update(kept)
        llama_index.core.global_tokenizer = tokenizer

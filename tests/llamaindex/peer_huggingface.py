"""The conformance suite on llama-index-llms-huggingface over the demo checkpoint, to compare with.

No part of the tests, for it fails where that class does. In an environment of its own that has
``llama-index-llms-huggingface``, pytest and pytest-timeout, from the checkout's root:

    PYTHONPATH=$PWD HF_HUB_OFFLINE=1 python -m pytest tests/llamaindex/peer_huggingface.py \
        -c /dev/null --rootdir=. --import-mode=importlib --noconftest \
        -p no:cacheprovider --timeout=60 -q
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import aquila2_runtime
from llamaindex_aquila2.conformance import LLMConformance
from llamaindex_aquila2.conformance.suite import Prompt

huggingface = pytest.importorskip("llama_index.llms.huggingface")

DEMO = Path(aquila2_runtime.__file__).parent / "demo"
# aquila-v1, the demo's template, in the form that transformers' tokenizers take.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '<|startofpiece|>' + message['content'] + '<|endofpiece|>' }}"
    "{% else %}{{ message['content'] + '</s>' }}{% endif %}{% endfor %}"
)


@functools.cache
def loaded() -> tuple[Any, Any]:
    """Model and tokenizer, once: every object of the class would load them anew."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    aquila2_runtime.register()
    tokenizer = AutoTokenizer.from_pretrained(str(DEMO))
    tokenizer.chat_template = TEMPLATE
    return AutoModelForCausalLM.from_pretrained(str(DEMO), device_map="cpu"), tokenizer


class Failing:
    """A logits processor with a bug, as a worker's failure."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        raise RuntimeError("The forward pass failed.")


class TestHuggingFace(LLMConformance):
    """Every point of the suite."""

    patience = 10.0
    most_loop_pause = 0.5

    @property
    def llm_class(self) -> Any:
        return huggingface.HuggingFaceLLM

    @property
    def llm_params(self) -> dict[str, Any]:
        model, tokenizer = loaded()
        return {
            "model": model,
            "tokenizer": tokenizer,
            "model_name": str(DEMO),
            "tokenizer_name": str(DEMO),
            "device_map": "cpu",
            "context_window": 2_048,
            "is_chat_model": True,
            "generate_kwargs": {"do_sample": False},
        }

    @property
    def limit(self) -> str:
        return "max_new_tokens"

    def exact_fields(self, tokens: int) -> Mapping[str, Any]:
        return {"generate_kwargs": {"do_sample": False, "min_new_tokens": tokens}}

    def saying(self, text: str) -> tuple[Any, dict[str, Any]]:
        tokenizer = loaded()[1]
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        begun: list[int] = []

        def allowed(batch: int, seen: Any) -> list[int]:
            begun.append(len(seen)) if not begun else None
            return [ids[min(len(seen) - begun[0], len(ids) - 1)]]

        kwargs = {"do_sample": False, "prefix_allowed_tokens_fn": allowed}
        return self.at_most(64, generate_kwargs=kwargs), {}

    def failing(self) -> tuple[Any, type[Exception]]:
        return self.at_most(
            16, generate_kwargs={"do_sample": False, "logits_processor": [Failing()]}
        ), RuntimeError

    @property
    def window(self) -> int:
        return 2_048

    def count_tokens(self, text: str) -> int:
        return len(loaded()[1].encode(text, add_special_tokens=False))

    def prompt_tokens(self, llm: Any, prompt: Prompt) -> int:
        text = prompt if isinstance(prompt, str) else llm.messages_to_prompt(prompt)
        return self.count_tokens(text)

    def prepare(self, llm: Any) -> None:
        # Its documentation says no more than this; a tokenizer is not set.
        from llama_index.core import Settings

        Settings.llm = llm

"""ChatHuggingFace over aquila2-demo's own weights: how it is made, and what it is asked.

The tokenizer is given the checkpoint's own chat form, which no released file has. It knows the
class and the weights, and nothing of what is looked at.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

import aquila2_runtime

DEMO = Path(aquila2_runtime.__file__).parent / "demo"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}</s>"
    "{% else %}<|startofpiece|>{{ m['content'] }}<|endofpiece|>{% endif %}{% endfor %}"
)
QUESTION = "What is the capital of France?"


@functools.cache
def parts() -> tuple[Any, Any]:
    """Model and tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    aquila2_runtime.register()
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    tokenizer.chat_template = TEMPLATE
    return AutoModelForCausalLM.from_pretrained(DEMO), tokenizer


def make(*, max_new_tokens: int = 64, pipeline_kwargs: Any = None, **fields: Any) -> Any:
    """A chat model over one pipeline, greedy: a pipeline draws its tokens unless told not to."""
    from transformers import pipeline

    model, tokenizer = parts()
    made = pipeline(
        "text-generation",
        model=model,
        tokenizer=tokenizer,
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    llm = HuggingFacePipeline(pipeline=made, pipeline_kwargs=pipeline_kwargs)
    return ChatHuggingFace(llm=llm, tokenizer=tokenizer, **fields)


class Forced:
    """A logits processor under which a text is said, whatever the weights: its ids, in turn."""

    def __init__(self, text: str) -> None:
        tokenizer = parts()[1]
        self.ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        self.said = 0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Leave the next id alone."""
        forced = scores.new_full(scores.shape, float("-inf"))
        forced[:, self.ids[min(self.said, len(self.ids) - 1)]] = 0
        self.said += 1
        return forced


class Failing:
    """A logits processor with a bug, as a worker's failure."""

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Fail."""
        raise RuntimeError("broken kernel")


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

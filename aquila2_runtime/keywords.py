"""Refusing unknown keywords with the nearest known name, or the one that means the same.

It knows what other libraries call some of them, and nothing else of their meaning.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Final

from aquila2_runtime.errors import UnknownParameterError

# Words of OpenAI, transformers, Ollama, llama.cpp and vLLM whose spelling is nearest to a keyword
# of another meaning, or to none.
_ELSEWHERE: Final = {
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "stop_sequences": "stop",
    "do_sample": "temperature",
    "guided_json": "constraint",
    "guided_regex": "constraint",
    "guided_choice": "constraint",
    "guided_grammar": "constraint",
    "max_length": "max_model_len",
    "num_ctx": "max_model_len",
    "n_ctx": "max_model_len",
    "context_window": "max_model_len",
    "model_path": "model",
    "model_id": "model",
    "model_name": "model",
    "torch_dtype": "dtype",
    "load_in_4bit": "quantization",
    "load_in_8bit": "quantization",
}


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name most like a misspelt one, or None."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return found[0] if found else None


def reject_unknown(given: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise for the first keyword that is not known.

    Args:
        given: Keywords as the caller wrote them.
        known: Keywords that exist.
        where: What takes them, for the message (for example ``"SamplingParams"``).

    Raises:
        UnknownParameterError: A keyword is not known; the nearest known one is suggested.
    """
    for name in given:
        if name not in known:
            near = _ELSEWHERE.get(name)
            near = near if near in known else nearest(name, known)
            hint = f"Did you mean {near!r}?" if near else f"Known: {', '.join(sorted(known))}."
            raise UnknownParameterError(
                f"{where} has no parameter {name!r}.", parameter=name, hint=hint
            )

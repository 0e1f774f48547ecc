"""OpenAI's words for sampling, as the runtime's. It checks no values: the runtime does.

``logprobs`` may be a flag with ``top_logprobs`` beside it, and the ids of ``logit_bias`` may be
text, which is what JSON makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_ID_DIGITS: Final = 20


def runtime_words(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return sampling keywords without OpenAI's own: those of ``SamplingParams`` alone."""
    told = dict(sampling)
    top = told.pop("top_logprobs", None)
    if "logprobs" in told:
        told["logprobs"] = _count(told["logprobs"], top)
    elif top is not None:
        told["logprobs"] = top
    if "logit_bias" in told:
        told["logit_bias"] = with_whole_ids(told["logit_bias"])
    return told


def with_whole_ids(bias: Any) -> Any:
    """Return a ``logit_bias`` whose ids are numbers; what is none stays and is refused later."""
    if not isinstance(bias, Mapping):
        return bias
    return {int(key) if _is_whole(key) else key: value for key, value in bias.items()}


def _is_whole(key: Any) -> bool:
    # int() raises for thousands of digits, and no vocabulary has so many ids.
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < _ID_DIGITS


def _count(asked: Any, top: Any) -> Any:
    """How many of the likeliest tokens to list; None for no log-probabilities at all."""
    if asked is False:
        return None
    if asked is True:
        return 0 if top is None else top
    return asked if top is None else top

"""Keywords of a call and of the constructor, checked and sorted. It knows no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from aquila2_runtime import InvalidSamplingParamsError, SamplingParams
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.request_options import RequestOptions
from aquila2_runtime.sampling import FIELD_NAMES
from llamaindex_aquila2._tools import runtime_choice, runtime_tools

# Tokens of an answer when nobody says: at most this, and at most this share of the context.
DEFAULT_MAX_TOKENS: Final = 512
DEFAULT_SHARE: Final = 4

# Other names people know the limit by.
MAX_TOKENS_ALIASES: Final = ("max_new_tokens", "num_output")
# A LlamaIndex response carries one answer, and has no place for the prompt's probabilities.
_NOT_HERE: Final = frozenset({"n", "prompt_logprobs"})
SAMPLING_KEYWORDS: Final = FIELD_NAMES - _NOT_HERE
# Sampling fields of the constructor; logit_bias has integer keys, which JSON does not keep.
SAMPLING_FIELDS: Final = SAMPLING_KEYWORDS - {"constraint", "logit_bias"}
REQUEST_KEYWORDS: Final = frozenset({"adapter", "fit", "cache_salt", "timeout"})
TOOL_KEYWORDS: Final = frozenset({"tools", "tool_choice", "parallel_tool_calls"})
# The constructor has no such field, or, for progress, one that hears of loading.
_OF_CALLS: Final = frozenset({"answer_limit", "progress"})
# LlamaIndex's DocumentContextExtractor sends every model Anthropic's, and only logs a refusal.
_WITHOUT_A_WIRE: Final = frozenset({"extra_headers"})
_ALIASES: Final = frozenset(MAX_TOKENS_ALIASES)
CALL_KEYWORDS: Final = SAMPLING_KEYWORDS | REQUEST_KEYWORDS | _OF_CALLS | _WITHOUT_A_WIRE | _ALIASES
CHAT_KEYWORDS: Final = CALL_KEYWORDS | TOOL_KEYWORDS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What one call asks for.

    Attributes:
        params: How to choose tokens and when to stop; ``max_tokens`` as asked for, None if not.
        request: The runtime's keywords beside ``params``, those that are set.
        fit_is_default: Whether ``fit`` comes from the constructor.
    """

    params: SamplingParams
    request: dict[str, Any]
    fit_is_default: bool


def unalias(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Bring other names of ``max_tokens`` to that name; beside a value, None says nothing.

    Raises:
        InvalidSamplingParamsError: The limit is given twice, with different values.
    """
    plain = {name: value for name, value in given.items() if name not in MAX_TOKENS_ALIASES}
    for alias in MAX_TOKENS_ALIASES:
        if alias not in given:
            continue
        value, other = given[alias], plain.get("max_tokens")
        if value is not None and other is not None and value != other:
            raise InvalidSamplingParamsError(
                f"{where} was given {alias}={value!r} and another limit, {other!r}.",
                parameter=alias,
                value=value,
                hint="They mean the same; give one.",
            )
        plain["max_tokens"] = other if value is None else value
    return plain


def call_options(
    defaults: Mapping[str, Any], given: Mapping[str, Any], known: frozenset[str] = CALL_KEYWORDS
) -> CallOptions:
    """Lay a call's keywords over the constructor's.

    A keyword given as None takes the constructor's value, except ``seed``, ``timeout``, ``fit``,
    ``adapter`` and ``logprobs``, which None switches off. Stop strings and stop ids add to the
    constructor's. An ``answer_limit`` replaces the constructor's ``max_tokens``, not the call's.

    Args:
        defaults: The constructor's sampling fields, ``adapter``, ``fit`` and ``timeout``.
        given: The keywords of the call.
        known: Those that there are.

    Raises:
        UnknownParameterError: A keyword does not exist; the nearest one is suggested.
        InvalidRequestError: A value has a wrong type or lies outside its range.
    """
    reject_unknown(given, known, "Aquila2")
    asked = unalias(given, "The call")
    for name in _WITHOUT_A_WIRE:
        asked.pop(name, None)
    request = {name: value for name, value in defaults.items() if name in REQUEST_KEYWORDS}
    sampling = {name: value for name, value in defaults.items() if name in SAMPLING_KEYWORDS}
    can_be_none = {"seed", "logprobs"}
    for name, value in asked.items():
        if name in REQUEST_KEYWORDS | _OF_CALLS:
            request[name] = value
        elif name in TOOL_KEYWORDS:
            if value is not None:
                request[name] = _TOOL_READERS.get(name, _as_it_is)(value)
        elif value is not None or name in can_be_none:
            sampling[name] = value
    for name in ("stop", "stop_token_ids"):
        if asked.get(name) is not None:
            sampling[name] = _both(defaults.get(name), asked[name])
    if asked.get("answer_limit") is not None and asked.get("max_tokens") is None:
        sampling["max_tokens"] = None
    params = SamplingParams(**sampling)
    request = {name: value for name, value in request.items() if value is not None}
    RequestOptions(**request)
    return CallOptions(
        params=params,
        request=request,
        fit_is_default="fit" not in given,
    )


def _as_it_is(value: object) -> object:
    return value


_TOOL_READERS: Final[dict[str, Callable[[object], object]]] = {
    "tools": runtime_tools,
    "tool_choice": runtime_choice,
}


def default_limit(max_model_len: int) -> int:
    """Tokens of an answer when nobody says: 512, less in a small context."""
    return max(1, min(DEFAULT_MAX_TOKENS, max_model_len // DEFAULT_SHARE))


def _both(first: object, second: object) -> object:
    """Two lists as one; what is not a list of its kind is left for ``SamplingParams`` to refuse."""
    if isinstance(second, str):
        second = (second,)
    if isinstance(first, str):
        first = (first,)
    if not isinstance(second, (list, tuple)):
        return second
    return (*(first if isinstance(first, (list, tuple)) else ()), *second)

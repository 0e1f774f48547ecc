"""SamplingParams: what a caller may ask of generation, validated once. It knows no model."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidSamplingParamsError
from aquila2_runtime.grammar.constraints import KINDS, Constraint
from aquila2_runtime.keywords import reject_unknown

MAX_N: Final = 64
MAX_LOGPROBS: Final = 20
MAX_NEW_TOKENS: Final = 1_000_000
MAX_STOPS: Final = 16
MAX_STOP_CHARACTERS: Final = 512
MAX_TOKEN_IDS: Final = 1_024
# Below this, temperature is treated as greedy: 1/temperature would overflow fp32 logits.
MIN_TEMPERATURE: Final = 1e-6
# Spells refused values: never all of a long one, whatever its own repr does.
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 77


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop.

    Example:
        >>> SamplingParams(max_tokens=128, temperature=0.7, seed=1).temperature
        0.7

    Attributes:
        max_tokens: Most new tokens; None means what is left of the context.
        min_tokens: Fewest new tokens before an end-of-text or stop id may be chosen. A stop
            string that appears earlier does not end the text either.
        temperature: 0 is greedy; values below 1e-6 are greedy too. Range [0, 2].
        top_p: Smallest set of tokens whose probability reaches this. Range (0, 1]; 1 is off.
        top_k: Only the k likeliest tokens; 0 or -1 is off; more than the vocabulary is all of it.
        min_p: Only tokens at least this likely relative to the likeliest. Range [0, 1].
        repetition_penalty: Divides positive and multiplies negative logits of tokens that occur
            in prompt or answer (Keskar et al., 2019). Range (0, 2]; 1 is off.
        presence_penalty: Subtracted once from logits of tokens in the answer. Range [-2, 2].
        frequency_penalty: Subtracted once per occurrence in the answer. Range [-2, 2].
        logit_bias: Token id to a number added to its logit, each in [-100, 100].
        stop: Strings that end the answer; the text ends before the first of them.
        include_stop_str_in_output: Keep the stop string at the end of the text.
        stop_token_ids: Token ids that end the answer, beside the checkpoint's end-of-text id.
        ignore_eos: Go on past the end-of-text id (for benchmarks).
        seed: Same seed, same text, alone or in any batch. None draws one.
        n: Answers per prompt.
        logprobs: None for none; k for the chosen token's log-probability and the k likeliest
            (before penalties, temperature and truncation).
        prompt_logprobs: The same for every prompt token but the first.
        constraint: What the answer must be: ``JsonSchema``, ``AnyJson``, ``Regex``, ``Choice`` or
            ``LarkGrammar``. It goes before ``min_tokens``, and stop strings and stop ids do not
            apply. Beside tools, the first two say what an answer is where it is no call.

    Raises:
        InvalidSamplingParamsError: A field has a wrong type or lies outside its range.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] | None = dataclasses.field(default=None, hash=False)
    stop: str | tuple[str, ...] | list[str] | None = ()
    include_stop_str_in_output: bool = False
    stop_token_ids: tuple[int, ...] | list[int] | None = ()
    ignore_eos: bool = False
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        """Check every field and bring sequences into their stored form (tuples, a dict)."""
        _whole("max_tokens", self.max_tokens, 1, MAX_NEW_TOKENS, optional=True)
        _whole("min_tokens", self.min_tokens, 0, MAX_NEW_TOKENS)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            _fail("min_tokens", self.min_tokens, f"at most max_tokens={self.max_tokens}")
        self._set("temperature", _number("temperature", self.temperature, 0.0, 2.0))
        self._set("top_p", _number("top_p", self.top_p, 0.0, 1.0, open_low=True))
        _whole("top_k", self.top_k, -1, 2**31 - 1)
        self._set("min_p", _number("min_p", self.min_p, 0.0, 1.0))
        penalty = _number("repetition_penalty", self.repetition_penalty, 0.0, 2.0, open_low=True)
        self._set("repetition_penalty", penalty)
        self._set("presence_penalty", _number("presence_penalty", self.presence_penalty, -2.0, 2.0))
        frequency = _number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        self._set("frequency_penalty", frequency)
        self._set("logit_bias", _bias(self.logit_bias))
        self._set("stop", _stops(self.stop))
        self._set("stop_token_ids", _token_ids("stop_token_ids", self.stop_token_ids))
        for name in ("include_stop_str_in_output", "ignore_eos"):
            if not isinstance(getattr(self, name), bool):
                _fail(name, getattr(self, name), "True or False")
        _whole("seed", self.seed, -(2**63), 2**63 - 1, optional=True)
        _whole("n", self.n, 1, MAX_N)
        _whole("logprobs", self.logprobs, 0, MAX_LOGPROBS, optional=True)
        _whole("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS, optional=True)
        _check_constraint(self.constraint)
        if self.constraint is not None and self.ignore_eos:
            _fail("ignore_eos", True, "False under a constraint, which ends the answer itself")

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> SamplingParams:
        """Build from keywords of unknown origin.

        Raises:
            UnknownParameterError: A keyword is not a field; the nearest field is suggested.
        """
        reject_unknown(kwargs, FIELD_NAMES, "SamplingParams")
        return cls(**kwargs)

    def replace(self, **changes: Any) -> SamplingParams:
        """Return a copy with some fields changed, validated again."""
        reject_unknown(changes, FIELD_NAMES, "SamplingParams")
        return dataclasses.replace(self, **changes)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < MIN_TEMPERATURE

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings as stored, without duplicates, in the caller's order."""
        return tuple(self.stop) if self.stop else ()

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The extra stop ids as stored."""
        return tuple(self.stop_token_ids) if self.stop_token_ids else ()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


FIELD_NAMES: Final = frozenset(field.name for field in dataclasses.fields(SamplingParams))


def _fail(parameter: str, value: object, allowed: str) -> NoReturn:
    shown = _shown(value)
    raise InvalidSamplingParamsError(
        f"{parameter}={shown} is not valid; it must be {allowed}.",
        parameter=parameter,
        value=value,
    )


def _shown(value: object) -> str:
    try:
        shown = _SHORT.repr(value)
    except ValueError:  # Python refuses to spell integers of more than 4,300 digits
        return f"<{type(value).__name__}>"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _whole(name: str, value: object, low: int, high: int, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    allowed = f"an integer from {low} to {high}" + (" or None" if optional else "")
    # bool is an int to Python; "max_tokens=True" is a mistake to everybody else.
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _fail(name, value, allowed)


def _number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    range_text = f"above {low:g} up to {high:g}" if open_low else f"from {low:g} to {high:g}"
    allowed = f"a number {range_text}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _fail(name, value, allowed)
    # Written so that NaN, for which every comparison is false, is refused.
    if not (low <= value <= high) or (open_low and value == low):
        _fail(name, value, allowed)
    return float(value)


def _bias(value: object) -> dict[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) > MAX_TOKEN_IDS:
        _fail("logit_bias", value, f"a mapping of at most {MAX_TOKEN_IDS} token ids to numbers")
    checked: dict[int, float] = {}
    for key, bias in value.items():
        _whole("logit_bias key", key, 0, 2**31 - 1)
        checked[key] = _number("logit_bias value", bias, -100.0, 100.0)
    return checked


def _check_constraint(value: object) -> None:
    if value is not None and not isinstance(value, KINDS):
        names = ", ".join(kind.__name__ for kind in KINDS)
        _fail("constraint", value, f"one of {names}, or None")


def _stops(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, (tuple, list)) or len(items) > MAX_STOPS:
        _fail("stop", value, f"a string or at most {MAX_STOPS} strings")
    for item in items:
        if not isinstance(item, str) or not 0 < len(item) <= MAX_STOP_CHARACTERS:
            _fail("stop", item, f"non-empty strings of at most {MAX_STOP_CHARACTERS} characters")
    return tuple(dict.fromkeys(items))


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if not isinstance(value, (tuple, list)) or len(value) > MAX_TOKEN_IDS:
        _fail(name, value, f"a list of at most {MAX_TOKEN_IDS} token ids")
    for item in value:
        _whole(name, item, 0, 2**31 - 1)
    return tuple(dict.fromkeys(value))

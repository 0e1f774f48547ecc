"""Rotary positions as config.json states them: base, linear factor, context. It computes no angles.

The released files use ``rope_scaling: {"type", "factor"}``; re-saved ones ``rope_type`` in its
place, or ``rope_parameters`` with ``rope_theta`` inside. All are read; two that disagree are an
error, and so is any scaling other than linear.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import ConfigError

_DEFAULT_THETA: Final = 10_000.0  # the released files leave it out
_KNOWN: Final = frozenset({"type", "rope_type", "factor", "rope_theta", "partial_rotary_factor"})
_STATES_BOTH: Final = 16_384
_LARGEST_CONTEXT: Final = 1 << 24


@dataclasses.dataclass(frozen=True, slots=True)
class Rope:
    """How positions are rotated.

    Attributes:
        theta: Base of the frequencies.
        factor: Positions are divided by it; 1.0 is no scaling.
    """

    theta: float
    factor: float


def read_rope(raw: Mapping[str, Any]) -> Rope:
    """Read base and linear factor from a parsed config.json.

    Raises:
        ConfigError: A bad value, an unknown kind of scaling, or two statements that disagree.
    """
    thetas = {float(_number(raw, "rope_theta"))} if raw.get("rope_theta") is not None else set()
    factors: set[float] = set()
    for key in ("rope_scaling", "rope_parameters"):
        stated = raw.get(key)
        if stated is None:
            continue
        if not isinstance(stated, dict):
            _fail(key, stated, "must be an object or null")
        if not stated:
            continue
        factor = _factor(key, stated)
        # A bare {"rope_theta": …} says nothing about scaling.
        if factor is not None:
            factors.add(factor)
        if stated.get("rope_theta") is not None:
            thetas.add(float(_number(stated, "rope_theta")))
    if len(factors) > 1:
        _fail("rope_scaling", raw.get("rope_scaling"), "disagrees with rope_parameters")
    if len(thetas) > 1:
        _fail("rope_theta", raw.get("rope_theta"), "is stated twice, with different values")
    return Rope(thetas.pop() if thetas else _DEFAULT_THETA, factors.pop() if factors else 1.0)


def context_length(max_position_embeddings: int, factor: float) -> int:
    """Tokens of context a checkpoint was made for.

    ``max_position_embeddings`` times the linear factor; but the released 16K models state the
    length twice, so a file that already says 16,384 or more means what it says.

    Raises:
        ConfigError: The product is beyond any real model.
    """
    if max_position_embeddings >= _STATES_BOTH:
        return max_position_embeddings
    length = int(max_position_embeddings * factor)
    if length > _LARGEST_CONTEXT:
        _fail("rope_scaling", factor, f"gives a context of {length} tokens")
    return length


def _factor(key: str, stated: dict[str, Any]) -> float | None:
    unknown = sorted(set(stated) - _KNOWN)
    if unknown:
        _fail(key, stated, f"has the unknown entry {unknown[0]!r:.60}")
    kinds = {stated[name] for name in ("type", "rope_type") if isinstance(stated.get(name), str)}
    for name in ("type", "rope_type"):
        if stated.get(name) is not None and not isinstance(stated[name], str):
            _fail(key, stated, f"has a {name} that is no text")
    if len(kinds) > 1:
        _fail(key, stated, "states type and rope_type, which disagree")
    if stated.get("partial_rotary_factor") not in (None, 1, 1.0):
        _fail(key, stated, "rotates only a part of each head, which Aquila2 does not")
    kind = kinds.pop() if kinds else None
    if kind is None and stated.get("factor") is None:
        return None
    if kind == "default":
        return 1.0
    if kind != "linear":
        _fail(key, kind, "must be of type 'linear' (or null); Aquila2 knows no other scaling")
    factor = float(_number(stated, "factor"))
    if not 1.0 <= factor <= 1024.0:
        _fail(key, factor, "must have a factor from 1 to 1024")
    return factor


def _number(source: Mapping[str, Any], key: str) -> float:
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(key, value, "must be a number")
    if not (math.isfinite(value) and value > 0):
        _fail(key, value, "must be finite and above zero")
    return value


def _fail(key: str, value: object, problem: str) -> NoReturn:
    raise ConfigError(
        f"config.json: {key} {problem} (found {value!r:.100}).",
        parameter=key,
        value=value,
        hint='Linear scaling is written {"type": "linear", "factor": 4.0}.',
    )

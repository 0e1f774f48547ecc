"""Whether a value is JSON, and small enough to look at. It knows no schemas.

Everything is walked without recursion, so that depth is refused and never met.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

from aquila2_runtime.errors import InvalidConstraintError

MAX_BYTES: Final = 64_000
MAX_NESTING: Final = 96
MAX_VALUES: Final = 20_000


def check_json(value: object, parameter: str) -> None:
    """Refuse what is no JSON, or too deep or large to look at, without recursion."""
    left: list[tuple[object, int]] = [(value, 0)]
    for seen, (item, depth) in enumerate(left):
        if seen > MAX_VALUES or depth > MAX_NESTING:
            refuse(
                f"The schema has more than {MAX_VALUES} values or {MAX_NESTING} levels.",
                parameter,
            )
        inner: list[object] = []
        if isinstance(item, str):
            _check_string(item, parameter)
        elif isinstance(item, Mapping):
            if not all(isinstance(key, str) for key in item):
                refuse("A key in the schema is no string.", parameter)
            inner = [*item.values(), *item.keys()]
        elif isinstance(item, (list, tuple)):
            inner = list(item)
        elif isinstance(item, float) and not math.isfinite(item):
            refuse(f"The schema holds {item}, which JSON cannot.", parameter)
        elif isinstance(item, int) and abs(item) >= 2**63:
            refuse("The schema holds an integer of more than 64 bits.", parameter)
        elif item is not None and not isinstance(item, (int, float)):
            refuse(f"The schema holds a {type(item).__name__}, which JSON cannot.", parameter)
        if len(inner) > MAX_VALUES:
            refuse(f"The schema has more than {MAX_VALUES} values.", parameter)
        left += ((one, depth + 1) for one in inner)


def _check_string(text: str, parameter: str) -> None:
    if len(text) > MAX_BYTES:
        refuse(f"The schema has more than {MAX_BYTES} bytes.", parameter)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        refuse("A text in the schema has a lone surrogate.", parameter)


def check_size(text: str, parameter: str) -> None:
    """Refuse text of too many bytes."""
    size = len(text.encode("utf-8"))
    if size > MAX_BYTES:
        refuse(f"The schema has {size} bytes, more than {MAX_BYTES}.", parameter, value=size)


def values(schema: object) -> Iterator[object]:
    """Yield every value within a value, itself first."""
    left = [schema]
    while left:
        value = left.pop()
        yield value
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value


def refuse(
    message: str, parameter: str, *, value: object = None, hint: str | None = None
) -> NoReturn:
    """Raise the one error of this package's checks."""
    raise InvalidConstraintError(message, parameter=parameter, value=value, hint=hint)

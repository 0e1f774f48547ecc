"""Formats: what a string of a schema's ``format`` looks like, as a pattern. It compiles nothing.

The patterns are no wider than the types that read such strings: no year 0, no 29th of February
where there is none, no leap second, no duration beyond what a ``timedelta`` holds. Formats that are
not here are the compiler's own, whose forms those types take as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_YEAR: Final = r"[1-9]\d{3}"
_LEAP: Final = r"([1-9]\d(0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
DATE: Final = (
    rf"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)"
    rf"|02-(0[1-9]|1\d|2[0-8]))|{_LEAP}-02-29)"
)
TIME: Final = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
OFFSET: Final = r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"

_CLOCK: Final = r"T(\d{1,5}H(\d{1,5}M(\d{1,5}S)?)?|\d{1,5}M(\d{1,5}S)?|\d{1,5}S)"
_DAYS: Final = r"(\d{1,4}Y(\d{1,4}M(\d{1,4}D)?)?|\d{1,4}M(\d{1,4}D)?|\d{1,4}D)"
_OCTET: Final = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = rf"{_OCTET}(\.{_OCTET}){{3}}"
_HEX: Final = "[0-9a-fA-F]"
_GROUPS: Final = f"({_HEX}{{1,4}}(:{_HEX}{{1,4}}){{0,2}})?"
_IPV6: Final = f"(({_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}|{_GROUPS}::{_GROUPS})"
_LABEL: Final = "[a-z0-9]{1,24}(-[a-z0-9]{1,24})?"
# Top-level domains. The longer ones begin as none of those does that no mail reaches (arpa,
# invalid, local, onion, test): what checks addresses refuses these.
_TOP: Final = "([a-z]{2,3}|[b-hj-kmnp-su-z][a-z]{3,19}|info|online|tech|travel)"
_HOST: Final = rf"(({_LABEL}\.){{0,3}}[a-z]{{2,20}}|{_IPV4})"
_REST: Final = (
    r"(/[A-Za-z0-9._~:@!$&'()*+,;=%/-]{0,1000})?(\?[A-Za-z0-9._~:@!$'()*+,;=/?&-]{0,500})?"
)
_AFTER: Final = rf"{_HOST}(:[1-9]\d{{0,3}})?{_REST}(#[A-Za-z0-9._~/-]{{0,100}})?"

PATTERNS: Final[dict[str, str]] = {
    "date": DATE,
    "time": f"{TIME}{OFFSET}",
    "date-time": f"{DATE}T{TIME}{OFFSET}",
    "duration": rf"P(\d{{1,4}}W|{_DAYS}({_CLOCK})?|{_CLOCK})",
    "email": (
        r"[A-Za-z0-9_+-]{1,20}(\.[A-Za-z0-9_+-]{1,20}){0,2}"
        rf"@({_LABEL}\.){{1,3}}{_TOP}"
    ),
    "uri": rf"([a-z][a-z0-9+.-]{{1,10}}://{_AFTER}|(mailto|urn|tel):[A-Za-z0-9+._~:@/-]{{1,200}})",
    "ipvanyaddress": f"({_IPV4}|{_IPV6})",
    **{
        f"uuid{n}": f"{_HEX}{{8}}-{_HEX}{{4}}-{n}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}"
        for n in range(1, 9)
    },
}
"""By format; each matches a whole string."""

SILENT: Final = frozenset({"binary", "password", "path"})
"""Formats that say how a string is shown or used: any string is one."""


def narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the pattern of its format instead of the format, where there is one."""
    kept = dict(schema)
    name = kept.get("format")
    pattern = PATTERNS.get(name) if isinstance(name, str) else None
    if pattern is None:
        return kept
    del kept["format"]
    if "pattern" in kept:
        joined = kept.get("allOf")
        own = {"type": "string", "pattern": f"^({pattern})$"}
        kept["allOf"] = [*joined, own] if isinstance(joined, list) else [own]
    else:
        kept["pattern"] = f"^({pattern})$"
    return kept


def url_pattern(schemes: Iterable[str]) -> str:
    """A pattern of absolute addresses of some schemes."""
    return f"({'|'.join(sorted(schemes))})://{_AFTER}"

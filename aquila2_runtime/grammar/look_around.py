"""Look-around: patterns that ask what stands beside what they match. It compiles nothing.

No automaton follows those, nor references to what was matched before, so the compiler knows neither
and a pattern with one cannot be enforced. JavaScript and Python know both: zod's pattern of an
e-mail address looks ahead twice.
"""

from __future__ import annotations

import re
from typing import Final

# An escape, a class's opening with a bracket that stands for itself, its end, and such a group.
_SIGNS: Final = re.compile(r"\\.|\[\^?\]?|\]|\(\?(?:<?[=!]|P=)", re.DOTALL)
# Behind a backslash: the borders of words, and what a group matched.
_BESIDE: Final = frozenset("bBk123456789")


def looks_around(pattern: str) -> bool:
    """Whether a pattern looks beside what it matches, or back at what it has matched."""
    classes = 0
    for found in _SIGNS.finditer(pattern):
        sign = found[0]
        if sign.startswith("["):
            classes += 1
        elif sign == "]":
            classes -= classes > 0
        elif not classes and (sign.startswith("(") or sign[1] in _BESIDE):
            return True
    return False

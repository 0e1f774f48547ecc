r"""Word classes: ``\w`` and ``\W`` of a pattern, spelt out for all scripts. It compiles nothing.

The compiler takes them for ASCII, as JavaScript does; pydantic and Python do not. A name in Chinese
would then be refused by ``^\w{2,10}$`` that the class itself accepts. What is spelt out is no wider
than what either of these two reads: letters and decimal digits are in words for both, and what is
in words for one of them is no other sign.
"""

from __future__ import annotations

from typing import Final

_SURELY: Final = r"\p{L}_\p{Nd}"
_MAYBE: Final = r"\p{Alphabetic}\p{M}_\p{N}\p{Pc}\x{200C}\x{200D}"


def unicode_words(pattern: str) -> str:
    r"""Return a pattern in which no ``\w`` and no ``\W`` is left."""
    written: list[str] = []
    negated: list[bool] = []  # for each open class, outermost first, whether it takes the others
    at = 0
    while at < len(pattern):
        size = 2 if pattern[at] == "\\" else 1
        sign = pattern[at : at + size]
        at += size
        if sign in (r"\w", r"\W"):
            if negated and written[-1] == "-":
                written[-1] = r"\-"  # no class is the end of a range: the sign itself is meant
            written.append(_spelt(sign, negated))
            if negated and pattern.startswith("-", at):
                written.append(r"\-")
                at += 1
            continue
        if sign == "[":
            others = pattern.startswith("^", at)
            negated.append(others)
            sign += "^" * others
            at += others
            if pattern.startswith("]", at):
                sign += r"\]"  # as the first it stands for itself
                at += 1
        elif sign == "]" and negated:
            negated.pop()
        written.append(sign)
    return "".join(written)


def _spelt(sign: str, negated: list[bool]) -> str:
    # What is narrow in a class that takes the others makes that class wide.
    members = _SURELY if (sign == r"\w") != (sum(negated) % 2 == 1) else _MAYBE
    if sign == r"\W":
        return f"[^{members}]"
    return members if negated else f"[{members}]"

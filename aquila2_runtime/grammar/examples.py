"""Examples: one short text for each pattern of a schema. They are guesses, and check nothing.

A search byte by byte finds no literal that a pattern wants somewhere in a string: half of it looks
like any other text. What the pattern itself spells is there at once. A pattern that is not
understood has no example, and a search has to do.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aquila2_runtime.grammar.plain_json import values

_MOST_CHARACTERS: Final = 2_000  # of an example, and of a pattern that is read
_MOST_EXAMPLES: Final = 64
_MAX_DEPTH: Final = 32
# The first of these that a class has stands for it; then what its ranges begin with.
_USUAL: Final = "a0A-_.:@ /王é"
_SPACES: Final = " \t\n\r\f\v"
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_DIGITS: Final = {"x": 2, "u": 4, "U": 8}  # of a code point, behind the letter

# Whether a class has a character.
_Class = Callable[[str], bool]


def schema_examples(schema: object) -> tuple[bytes, ...]:
    """Texts that the patterns in a schema match, the shortest first, as JSON strings have them."""
    found: set[str] = set()
    for value in values(schema):
        if not isinstance(value, Mapping) or not isinstance(value.get("pattern"), str):
            continue
        text = example(value["pattern"])
        if not text:
            continue
        least = value.get("minLength", 0)
        missing = int(least) - len(text) if isinstance(least, (int, float)) else 0
        padding = "a" * min(missing, _MOST_CHARACTERS)
        # Where a pattern wants it at one end, there is room at the other.
        found |= {padding + text, text + padding}
        if len(found) > _MOST_EXAMPLES:
            break
    spelt = (json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in found)
    return tuple(sorted(spelt, key=lambda text: (len(text), text)))


def example(pattern: str) -> str | None:
    """A short text that a pattern matches, or None where the pattern is not understood."""
    if len(pattern) > _MOST_CHARACTERS:
        return None
    try:
        text = _Reader(pattern).read()
        text.encode()
    except (_NotUnderstoodError, UnicodeEncodeError):
        return None
    return text


class _NotUnderstoodError(Exception):
    pass


class _Reader:
    """Reads one pattern from left to right, as Rust's regex crate does."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def read(self) -> str:
        text = self._branches(0)
        if self._at < len(self._pattern):
            raise _NotUnderstoodError  # a bracket that nothing opened
        return text

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise _NotUnderstoodError
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, text: str) -> bool:
        taken = self._pattern.startswith(text, self._at)
        self._at += len(text) * taken
        return taken

    def _until(self, end: str) -> str:
        stop = self._pattern.find(end, self._at)
        if stop < 0:
            raise _NotUnderstoodError
        text = self._pattern[self._at : stop]
        self._at = stop + len(end)
        return text

    def _branches(self, depth: int) -> str:
        """The shortest of some branches."""
        if depth > _MAX_DEPTH:
            raise _NotUnderstoodError
        found = [self._sequence(depth)]
        while self._take("|"):
            found.append(self._sequence(depth))
        return min(found, key=len)

    def _sequence(self, depth: int) -> str:
        text = ""
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            one = self._atom(depth)
            for times in self._repeats():
                if len(one) * times > _MOST_CHARACTERS:
                    raise _NotUnderstoodError
                one *= times
            text += one
        if len(text) > _MOST_CHARACTERS:
            raise _NotUnderstoodError
        return text

    def _repeats(self) -> Iterator[int]:
        """How often what was read must stand there at least, for each sign that says so."""
        while self._at < len(self._pattern):
            if self._take("*") or self._take("?"):
                yield 0
            elif self._take("+"):
                yield 1
            elif self._take("{"):
                least = self._until("}").split(",")[0].strip()
                if not least.isascii() or (least and not least.isdigit()) or len(least) > 9:
                    raise _NotUnderstoodError
                yield int(least or "0")
            else:
                return
            self._take("?")  # which says that as little as possible is taken

    def _atom(self, depth: int) -> str:
        sign = self._next()
        if sign in "^$":
            return ""
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            return self._class()
        if sign == ".":
            return "a"
        if sign == "\\":
            return self._escape()
        return sign

    def _group(self, depth: int) -> str:
        if self._take("?"):
            if self._take("P<") or self._take("<"):
                if self._pattern.startswith(("=", "!"), self._at):
                    raise _NotUnderstoodError  # looks behind
                self._until(">")
            else:
                flags = itertools.takewhile(lambda sign: sign.isalpha() or sign == "-",
                                            self._pattern[self._at :])  # fmt: skip
                said = "".join(flags)
                self._at += len(said)
                if "x" in said:
                    raise _NotUnderstoodError  # spaces are none then
                if self._take(")"):
                    return ""
                if not self._take(":"):
                    raise _NotUnderstoodError
        text = self._branches(depth + 1)
        if not self._take(")"):
            raise _NotUnderstoodError
        return text

    def _escape(self) -> str:
        sign = self._next()
        if sign in "AzZbB":
            return ""
        named = self._named(sign)
        return _member(named) if named is not None else self._character(sign)

    def _character(self, sign: str) -> str:
        """The character that a sign behind a backslash stands for."""
        if sign in _CONTROLS:
            return _CONTROLS[sign]
        if sign in _DIGITS:
            try:
                return chr(int(self._digits(_DIGITS[sign]), 16))
            except (ValueError, OverflowError) as error:
                raise _NotUnderstoodError from error
        if sign.isalnum():
            raise _NotUnderstoodError
        return sign

    def _digits(self, size: int) -> str:
        if self._take("{"):
            return self._until("}")
        self._at += size
        return self._pattern[self._at - size : self._at]

    def _named(self, sign: str) -> _Class | None:
        """The class that a sign behind a backslash names, if it names one."""
        named: dict[str, _Class] = {"d": str.isdecimal, "s": _SPACES.__contains__, "w": _in_words}
        if sign.lower() in named:
            own = named[sign.lower()]
            return own if sign.islower() else lambda one: not own(one)
        if sign not in "pP":
            return None
        name = self._until("}") if self._take("{") else self._next()
        if name in ("Han", "Script=Han", "sc=Han", "scx=Han"):
            return lambda one: ("\u4e00" <= one <= "\u9fff") == (sign == "p")
        if name == "Alphabetic":
            return lambda one: one.isalpha() == (sign == "p")
        if len(name) > 2:
            raise _NotUnderstoodError
        return lambda one: unicodedata.category(one).startswith(name) == (sign == "p")

    def _class(self) -> str:
        """A character of a class whose opening bracket has been read."""
        negated = self._take("^")
        parts: list[_Class] = []
        firsts = ""
        while not parts or not self._take("]"):
            if self._pattern.startswith(("[", "&&", "--", "~~"), self._at):
                raise _NotUnderstoodError  # a class within a class, or less another
            low = self._next()
            if low == "\\":
                sign = self._next()
                named = self._named(sign)
                if named is not None:
                    parts.append(named)
                    continue
                low = self._character(sign)
            high = low
            if self._take("-"):
                if self._pattern.startswith("]", self._at):
                    self._at -= 1  # it stands for itself at the end
                else:
                    high = self._next()
                    high = self._character(self._next()) if high == "\\" else high
            parts.append(_between(low, high))
            firsts += low
        return _member(lambda one: any(part(one) for part in parts) != negated, firsts)


def _between(low: str, high: str) -> _Class:
    return lambda one: low <= one <= high


def _in_words(one: str) -> bool:
    return one.isalnum() or one == "_"


def _member(of: _Class, firsts: str = "") -> str:
    for one in _USUAL + firsts:
        if of(one):
            return one
    raise _NotUnderstoodError

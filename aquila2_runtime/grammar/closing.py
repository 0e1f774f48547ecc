"""Closing: a short way from where a matcher stands to a complete answer. It knows no budget.

The ways are searched shortest first, over copies of the matcher, one byte at a time; where only
one continuation exists, all of it at once. In JSON most choices are no choices: a string that may
end ends, an object that may close closes, and of the members only required ones are looked at
first, because the next required one is the only one that must come. What remains are values of
several types, numbers, and strings with a pattern.

Where many members have patterns, each of their other beginnings would be followed as far as the
whole answer is long. A second search settles each value as soon as it ends: what is found then may
not be the shortest.

While an answer is written, most of the way that was known before stays good: a search then only
has to reach a place from which a tail of the known way leads on.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.errors import TokenizerError
from aquila2_runtime.grammar.guesses import beginnings, json_guesses, text_guesses
from aquila2_runtime.grammar.json_position import INSIDE, OUTSIDE, JsonPosition

if TYPE_CHECKING:
    from aquila2_runtime.grammar.vocabulary import Vocabulary

_FEW: Final = 24
_FEWER: Final = 16  # in the narrow search: digits are looked at one by one, letters are not
# Where many bytes are allowed, one of these usually leads on as well as any other.
_USUAL: Final = b'a0A-.:@/TZ1 ",}]'
_OTHERS: Final = 2  # looked at in the narrow search where none of these is allowed
_ENDS: Final = b'"}]'
_QUOTE: Final = b'"'[0]
_LETTER: Final = b"a"[0]
_LONGEST_RUN: Final = 10_002
_SECONDS_PER_TRY: Final = 5e-5
_BEHIND: Final = frozenset(b",}]")
_SETTLED: Final = (b'"', b",", b"}", b"]")
_MOST_TAILS: Final = 64
# How many of these bytes are allowed tells how far a pattern has got, and whether it may end soon.
_PROBES: Final = (b"0" * 16, b"a" * 16, b'aa"')
_ALIKE: Final = 2  # ways of equal length to what looks like the same place


class Closing:
    """Finds completions under one grammar.

    Args:
        vocabulary: Of the checkpoint.
        json_text: Whether what is closed is JSON.
        required: Names of members that are required somewhere, as JSON spells them.
        examples: Texts that strings with patterns may have, as JSON spells them, the shortest
            first.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        json_text: bool,
        required: Iterable[bytes] = (),
        examples: Iterable[bytes] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._json = json_text
        self._required = tuple(required)
        end = b'"' if json_text else b""
        self._examples: list[tuple[bytes, list[int]]] = []
        for text in examples:
            try:
                self._examples.append((text, vocabulary.spell(text + end)))
            except TokenizerError:
                continue  # not with these tokens
        units = vocabulary.units
        self._probes = [
            [units[byte] for byte in probe] for probe in _PROBES if units.keys() >= {*probe}
        ]

    def find(
        self, matcher: Any, place: JsonPosition, tries: int, known: bytes = b""
    ) -> bytes | None:
        """Return bytes that complete the answer, or None if none were found.

        Args:
            matcher: Where to start; it is not changed.
            place: The same place in the JSON text.
            tries: Continuations to look at, at most; and no more than fit a fixed time for each
                of them, counted in this thread's own processor time.
            known: What completed the answer before. With it the first way that is found is
                taken, which need not be the shortest.
        """
        tails = self._tails(known) if self._json else []
        # What completed the answer before has the letters that its patterns ask for.
        usual = bytes({*_USUAL, *known})
        found = self._search(matcher, place, tries // 4, tails, narrow=usual)
        if found is None and self._json:
            found = self._search(matcher, place, tries // 2, tails, narrow=usual, settling=True)
            tries -= tries // 4
        if found is not None:
            return found
        return self._search(matcher, place, tries, tails, narrow=b"")

    def guess(
        self, matcher: Any, place: JsonPosition, written: bytes, known: bytes
    ) -> Iterator[bytes]:
        """Yield what may complete the answer, to be looked at before a search; see ``guesses``.

        Args:
            matcher: Where the answer stands; it is not changed.
            place: The same place in the JSON text.
            written: What was written last.
            known: What completed the answer before that.
        """
        for first in beginnings(written):
            if first and not self._allowed(matcher, first):
                continue
            for rest in json_guesses(place) if self._json else text_guesses(known):
                yield first + rest

    def _allowed(self, matcher: Any, data: bytes) -> bool:
        tokens = self._vocabulary.spell(data)
        return len(tokens) == len(data) and bool(matcher.validate_tokens(tokens) == len(tokens))

    def _search(
        self,
        matcher: Any,
        place: JsonPosition,
        tries: int,
        tails: Sequence[tuple[bytes, list[int]]],
        *,
        narrow: bytes,
        settling: bool = False,
    ) -> bytes | None:
        """Search; ``narrow`` has the bytes to look at where many are allowed, none for all."""
        serial = itertools.count()
        until = time.thread_time() + tries * _SECONDS_PER_TRY
        ways = [(0, next(serial), b"", matcher.deep_copy(), place)]
        seen: dict[tuple[object, ...], int] = {}
        while ways:
            _, _, path, here, at = heapq.heappop(ways)
            if here.is_accepting():
                return path
            if settling and at.quote == OUTSIDE and path[-1:] in _SETTLED:
                ways.clear()
                seen.clear()
            if at.quote == OUTSIDE:
                for tail, tokens in tails:
                    if here.validate_tokens(tokens) == len(tokens):
                        return path + tail
            forced: bytes = here.compute_ff_bytes()
            # At the beginning, which may stand behind the rest of a character that was begun.
            begins = not path or path[-1] >= 0x80 or (self._json and at.length == 0)
            run = self._run(here, at) if narrow and begins and not forced else b""
            only = forced or run
            steps = [only] if only else self._steps(here, at, narrow=narrow)
            for step in steps:
                tries -= 1
                if tries < 0 or (tries % 16 == 0 and time.thread_time() > until):
                    return None
                ahead = here.deep_copy()
                if not self._take(ahead, step):
                    continue
                there = at.after(step) if self._json else at
                longer = path + step
                # What has no other beside it needs no telling apart; looking costs the most.
                key = self._look(ahead, there, len(longer)) if len(steps) > 1 else None
                if key is not None:
                    if seen.get(key, 0) >= _ALIKE:
                        continue
                    seen[key] = seen.get(key, 0) + 1
                heapq.heappush(ways, (len(longer), next(serial), longer, ahead, there))
        return None

    def _tails(self, known: bytes) -> list[tuple[bytes, list[int]]]:
        """The ends of a known way that begin behind a value, the shortest first, as tokens."""
        tokens = [*self._vocabulary.spell(known), self._vocabulary.eos_token_id]
        if len(tokens) != len(known) + 1:
            return []
        tails: list[tuple[bytes, list[int]]] = []
        place = JsonPosition()
        # A way may begin within a string; then what is a string and what is none is exchanged.
        for start in (place, place._replace(quote=INSIDE)):
            at = start
            for index, byte in enumerate(known):
                if at.quote == OUTSIDE and byte in _BEHIND:
                    tails.append((known[index:], tokens[index:]))
                at = at.after(known[index : index + 1])
        return sorted(tails, key=lambda tail: len(tail[0]))[:_MOST_TAILS]

    def _run(self, matcher: Any, at: JsonPosition) -> bytes:
        """Text after which a string may end: a run of one letter, or an example of a pattern.

        The run is for strings with a least length; the shorter of both is taken.
        """
        if self._json and (at.quote != INSIDE or at.naming):
            return b""
        units = self._vocabulary.units
        if self._json and _QUOTE not in units:
            return b""
        end = [units[_QUOTE]] if self._json else []
        if matcher.validate_tokens(end) == 1 if end else matcher.is_accepting():
            return b""
        example = next((text for text, tokens in self._examples
                        if matcher.validate_tokens(tokens) == len(tokens)), b"")  # fmt: skip
        letter = units.get(_LETTER)
        ahead = matcher.deep_copy()
        for count in range(1, len(example) or _LONGEST_RUN):
            if letter is None or not ahead.consume_token(letter):
                break
            if ahead.validate_tokens(end) == 1 if end else ahead.is_accepting():
                return bytes((_LETTER,)) * count
        return example

    def _look(self, matcher: Any, at: JsonPosition, length: int) -> tuple[object, ...]:
        """What tells this place from others, as far as can be seen without going on."""
        further = tuple(matcher.validate_tokens(probe) for probe in self._probes)
        seen = (matcher.compute_bitmask(), matcher.is_accepting(), further)
        return (*seen, *at) if self._json else (*seen, length)

    def _take(self, matcher: Any, step: bytes) -> bool:
        if len(step) == 1 and step[0] in self._vocabulary.units:
            return bool(matcher.consume_token(self._vocabulary.units[step[0]]))
        try:
            tokens = self._vocabulary.cut(step)
        except TokenizerError:
            return False
        return bool(matcher.consume_tokens(tokens))

    def _steps(self, matcher: Any, at: JsonPosition, *, narrow: bytes) -> list[bytes]:
        mask: bytes = matcher.compute_bitmask()
        allowed = [
            byte
            for byte, token_id in self._vocabulary.units.items()
            if mask[token_id // 8] >> token_id % 8 & 1
        ]
        chosen: Sequence[int] = allowed
        if self._json:
            chosen = self._json_steps(allowed, at, narrow=narrow)
        if len(chosen) > (_FEWER if narrow else _FEW):
            usual = narrow or range(0x80)
            # What is left has none of them: bytes of other scripts, of which any leads on.
            others = chosen[:_OTHERS] if narrow else chosen
            chosen = [byte for byte in usual if byte in chosen] or others
        return [bytes((byte,)) for byte in chosen]

    def _json_steps(
        self, allowed: Sequence[int], at: JsonPosition, *, narrow: bytes
    ) -> Sequence[int]:
        if at.quote == INSIDE and at.naming:
            return self._naming_steps(allowed, at, narrow=narrow)
        if at.quote == INSIDE:
            return [_QUOTE] if _QUOTE in allowed else allowed
        if at.quote == OUTSIDE:
            for end in _ENDS[1:]:
                if end in allowed:
                    return [end]
            if at.length and b","[0] in allowed:
                return b","
        return allowed

    def _naming_steps(
        self, allowed: Sequence[int], at: JsonPosition, *, narrow: bytes
    ) -> Sequence[int]:
        word = at.word
        ahead = {name[len(word)] for name in self._required
                 if len(name) > len(word) and name.startswith(word)}  # fmt: skip
        if word in self._required:
            ahead.add(_QUOTE)
        needed = [byte for byte in allowed if byte in ahead]
        if needed and narrow:
            return needed
        if _QUOTE in allowed and len(allowed) > _FEW:
            # Any name will do; a longer one than the one before cannot be the same.
            before = at.frames[-1][1] if at.frames else b""
            return b'"' if len(word) > len(before) else b"a" if _LETTER in allowed else allowed
        return allowed

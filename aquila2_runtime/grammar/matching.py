"""GrammarState: one answer's place in a grammar, and the way to its end. It compiles nothing.

It always knows bytes that complete the answer within the tokens that are left. An id that would
make the rest too long is not taken: the known way is, and from there on it is followed to the end.
So a constrained answer is complete whatever ``max_tokens`` is, where a way is known at all. Behind
some ids no search finds a way. That says nothing about their length: such an id is taken, and a way
sought again and again, until few tokens are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.engine.constraint import TokenConstraint
from aquila2_runtime.errors import GenerationError
from aquila2_runtime.grammar.json_position import JsonPosition

if TYPE_CHECKING:
    from aquila2_runtime.grammar.closing import Closing
    from aquila2_runtime.grammar.vocabulary import Vocabulary

# Continuations looked at while generating; the first search, before any work, may look at more.
_TRIES: Final = 3_000
# Where no way is known: continuations looked at, and steps to the next search, which become more.
_FEWER_TRIES: Final = 300
_SOON: Final = 4
_PATIENCE: Final = 32
# With so many tokens left one may go on without a way; with fewer, one that is known is not left.
_PLENTY: Final = 64


class GrammarState(TokenConstraint):
    """Follows one answer.

    Args:
        vocabulary: Of the checkpoint.
        closing: Finds completions.
        matcher: A matcher at the beginning, which is this object's from now on.
        way: Bytes that complete the answer from there; None if no way is known.
        max_tokens: Most tokens of the answer.
        place: Where in the JSON text it begins.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        closing: Closing,
        matcher: Any,
        way: bytes | None,
        max_tokens: int,
        place: JsonPosition | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._closing = closing
        self._matcher = matcher
        self._way = way
        self._left = max_tokens
        self._place = place or JsonPosition()
        self._cut = False
        self._sought = 0
        self._patience = _SOON
        # What ``settle`` found out about the id it returned.
        self._settled: tuple[int, bytes | None, JsonPosition] | None = None
        self._cut_before = False  # as it was before ``settle``

    @property
    def ended(self) -> bool:
        """Whether nothing but the end of the answer can follow."""
        matcher = self._matcher
        if matcher.is_stopped() or (self._cut and not self._way):
            return True
        # Some ends are seen only in the mask of the next step, which is kept for it.
        end = self._vocabulary.only_end
        return bool(matcher.is_accepting() and matcher.compute_bitmask()[: len(end)] == end)

    @property
    def cut(self) -> bool:
        """Whether the answer was closed because few tokens were left."""
        return self._cut

    def begin(self, data: bytes) -> bool:
        """Take bytes that were written before; return whether a whole answer still fits."""
        if not self._matcher.consume_tokens(self._vocabulary.cut(data)):
            self._check()
            self._fail("what was written before is not allowed")
        self._place = self._place.after(data)
        self._left += 1
        self._way = self._way_after(data, self._place)
        self._left -= 1
        return self._fits(self._way, self._left)

    def mask(self) -> bytes | None:
        """Return the ids that may come next (see ``TokenConstraint``)."""
        self._unsettle()
        if self._cut:
            return self._vocabulary.mask_of(self._next_of_way())
        mask: bytes = self._matcher.compute_bitmask()
        self._check()
        return mask

    def allows(self, token_id: int) -> bool:
        """Whether an id is certain to be in the mask (see ``TokenConstraint``)."""
        self._unsettle()
        if self._cut:
            return token_id == self._next_of_way()
        # Where one continuation exists, the mask has only the usual token for it.
        if token_id == self._vocabulary.eos_token_id or self._matcher.compute_ff_bytes():
            return False
        allowed = self._matcher.validate_tokens([token_id]) == 1
        self._check()
        return bool(allowed)

    def settle(self, token_id: int) -> int:
        """Return the id to take: the one chosen, or the first of the known way."""
        self._unsettle()
        if token_id == self._vocabulary.eos_token_id:
            return token_id
        self._cut_before = self._cut
        place, way = self._try(token_id)
        if not self._cut and self._way is not None and self._too_late(way):
            self._take_back()
            self._cut = True
            token_id = self._next_of_way()
            place, way = self._try(token_id)
        self._settled = (token_id, way, place)
        return token_id

    def advance(self, token_id: int) -> None:
        """Note that a settled id was taken."""
        if token_id != self._vocabulary.eos_token_id:
            if self._settled is None or self._settled[0] != token_id:
                self._unsettle()
                place, way = self._try(token_id)
            else:
                _, way, place = self._settled
            self._place, self._way = place, way
        self._settled = None
        self._left -= 1
        self._sought -= 1

    def _try(self, token_id: int) -> tuple[JsonPosition, bytes | None]:
        """Move the matcher over an id; return where that leads and the way on from there."""
        if not self._matcher.consume_token(token_id):
            self._check()
            self._fail("the id is not allowed")
        data = self._vocabulary.bytes_of(token_id)
        place = self._place.after(data)
        return place, self._way_after(data, place)

    def _way_after(self, data: bytes, place: JsonPosition) -> bytes | None:
        way = self._way
        if way is not None and way.startswith(data):
            return way[len(data) :]
        # Most ids lengthen a string or a number and leave the way to the end as it was.
        if way is not None and self._leads_to_end(way):
            kept = self._fitting(way, len(data))
            if kept is not None:
                return kept
        if way is None and self._sought > 0:
            return None
        if way is not None:
            for guess in self._closing.guess(self._matcher, place, data, way):
                if self._fits(guess, self._left - 1) and self._leads_to_end(guess):
                    return guess
        tries = _TRIES if way is not None else _FEWER_TRIES
        found = self._closing.find(self._matcher, place, tries, way or b"")
        if way and found is not None and not self._fits(found, self._left - 1):
            found = self._closing.find(self._matcher, place, _TRIES)
        if found is None:
            self._sought = self._patience
            self._patience = min(2 * self._patience, _PATIENCE)
        else:
            self._patience = _SOON
        return found

    def _fitting(self, way: bytes, written: int) -> bytes | None:
        """A way that leads on, or less of its beginning, if that fits the tokens that are left.

        Where a string has a least length the way begins with what is missing of it, which becomes
        less with everything that is written.
        """
        for dropped in (0, len(way) // 2, len(way) // 4, written):
            rest = way[dropped:]
            if self._fits(rest, self._left - 1) and (not dropped or self._leads_to_end(rest)):
                return rest
        return None

    def _leads_to_end(self, way: bytes) -> bool:
        tokens = [*self._vocabulary.spell(way), self._vocabulary.eos_token_id]
        return bool(self._matcher.validate_tokens(tokens) == len(tokens))

    def _too_late(self, way: bytes | None) -> bool:
        """Whether an id must not be taken, from the way that was found behind it."""
        if way is None:
            return self._left <= _PLENTY
        return not self._fits(way, self._left - 1)

    def _fits(self, way: bytes | None, left: int) -> bool:
        if way is None:
            return False
        # No token is shorter than a byte.
        return len(way) <= left or len(self._vocabulary.cut(way)) <= left

    def _next_of_way(self) -> int:
        if not self._way:
            return self._vocabulary.eos_token_id
        return self._vocabulary.cut(self._way)[0]

    def _unsettle(self) -> None:
        """Forget what ``settle`` tried: the step is run again."""
        if self._settled is not None:
            self._settled = None
            self._cut = self._cut_before
            self._take_back()

    def _take_back(self) -> None:
        if not self._matcher.rollback(1):
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            self._fail(str(self._matcher.get_error()).splitlines()[0])

    def _fail(self, reason: str) -> None:
        raise GenerationError(
            f"The constraint could not be followed: {reason:.200}.",
            parameter="constraint",
            hint="Use a simpler schema, expression or grammar.",
        )

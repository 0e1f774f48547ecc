"""Role markers spelled in message text: finding, neutralising and restoring them.

It knows the text of a prompt and which of it the template wrote, but no messages.

Three templates mark roles by plain text (``###Human:``, ``### Assistant: ``), which no tokenizer
setting can protect. A complete marker that is not the template's own is broken by one zero-width
space (U+200B) after its ``###`` or ``</s>``; a marker that already holds such spaces gets one more,
so that ``restore_markers`` gives back the exact text. A bare ``###`` stays as it is. What this
cannot do: keep a model from being persuaded by text that imitates a turn in other words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

BREAK: Final = "\u200b"
"""What is put into a marker: a zero-width space."""

# Both spacings are caught under every text-marker template: a model reads the one as the other.
_MARKER: Final = re.compile(rf"(###|</s>)({BREAK}*)([ \t]*(?:Human|Assistant):)")


def find_markers(text: str, own: Sequence[tuple[int, int]] = ()) -> Iterator[int]:
    """Yield the positions at which a break must be put.

    Args:
        text: Text of a prompt, or of a message.
        own: Spans of it (start, end) that the template wrote, in order and not touching; a marker
            that lies within one is the template's own.
    """
    spans = iter(own)
    span = next(spans, None)
    for match in _MARKER.finditer(text):
        while span is not None and span[1] <= match.start():
            span = next(spans, None)
        if span is None or not (span[0] <= match.start() and match.end() <= span[1]):
            yield match.end(1)


def neutralise_markers(text: str) -> str:
    """Return the text with every complete role marker broken by a zero-width space."""
    return insert_breaks(text, list(find_markers(text)))


def restore_markers(text: str) -> str:
    """Return the text as it was before ``neutralise_markers``, for any text."""
    return _MARKER.sub(lambda match: match[1] + match[2][1:] + match[3], text)


def insert_breaks(text: str, positions: Sequence[int]) -> str:
    """Return the text with a break at each of the positions, which ascend."""
    pieces, start = [], 0
    for position in positions:
        pieces.append(text[start:position])
        start = position
    pieces.append(text[start:])
    return BREAK.join(pieces)

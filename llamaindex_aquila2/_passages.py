"""Passages of a document: pages cut at sentences, each with its place. It knows no model."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from aquila2_runtime import InvalidRequestError
from aquila2_runtime.shown import shown

# A sentence with what ends it: a full stop is followed by a space, a Chinese one by anything.
# Whatever is read is not looked at again: a page may hold a line of ten thousand dots.
_SENTENCE: Final = re.compile(
    r"""(?s:.)(?:[^。！？；.!?\n]++|[.!?]++["')\]]*+(?!\s))*+"""
    r"""(?:[。！？；]++[”’」』）]*+|[.!?]++["')\]]*+|\n++|\Z)\s*+"""
)
_CHARACTERS: Final = 64  # of a token at most; a longer text has more tokens than asked for


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A page, or all of a document that has none.

    Attributes:
        label: Its name; None where there is one page only and it has none.
        text: What it says.
    """

    label: str | None
    text: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A passage that an answer rests on.

    Attributes:
        page: The page's label; None where there are no pages.
        start: Where it begins in the page's text, in characters; None if a retriever did not say.
        end: Where it ends.
        text: What it says.
        score: How well it matched; None if a retriever did not say.
    """

    page: str | None
    start: int | None
    end: int | None
    text: str
    score: float | None = None


def read_pages(document: object) -> list[Page]:
    """Return a document's pages.

    Args:
        document: A text, or texts or LlamaIndex documents, one a page (as its readers of PDF
            files give them). A page is called by its ``page_label``, else by its number.

    Raises:
        InvalidRequestError: It is neither, or has no text.
    """
    given = document if isinstance(document, (list, tuple)) else [document]
    pages = [_page(one, number, len(given)) for number, one in enumerate(given, start=1)]
    if not any(page.text.strip() for page in pages):
        raise InvalidRequestError("The document has no text.", parameter="document")
    return pages


def cut(pages: Sequence[Page], count: Callable[[str], int], most: int) -> list[Source]:
    """Cut pages into passages of whole sentences, in their order.

    Args:
        pages: The pages.
        count: Counts a text's tokens.
        most: Tokens of a passage at most. A longer sentence is cut where it must be.
    """
    return [
        Source(page=page.label, start=start, end=end, text=page.text[start:end])
        for page in pages
        for start, end in _spans(page.text, count, most)
        if page.text[start:end].strip()
    ]


def source_of(found: NodeWithScore) -> Source:
    """Return what a caller's retriever found."""
    node: BaseNode = found.node
    label = node.metadata.get("page_label")
    return Source(
        page=None if label is None else str(label),
        start=getattr(node, "start_char_idx", None),
        end=getattr(node, "end_char_idx", None),
        text=node.get_content(metadata_mode=MetadataMode.NONE),
        score=found.score,
    )


def place_of(source: Source, pages: Sequence[Page]) -> tuple[int, int]:
    """Return where a passage stands in a document: its page's place, and its start in the page.

    A retriever may not know the page, or count from elsewhere: then its text is looked for. What is
    found neither way comes after everything.
    """
    text, start = source.text, source.start
    for place, page in enumerate(pages):
        if page.label == source.page and start is not None and page.text.startswith(text, start):
            return place, start
    for place, page in enumerate(pages):
        start = page.text.find(text.strip())
        if start >= 0:
            return place, start
    labels = [page.label for page in pages]
    if source.page in labels and source.start is not None:
        return labels.index(source.page), source.start
    return len(pages), 0


def _page(given: object, number: int, pages: int) -> Page:
    if isinstance(given, BaseNode):
        label = given.metadata.get("page_label")
        text = given.get_content(metadata_mode=MetadataMode.NONE)
    elif isinstance(given, str):
        label, text = None, given
    else:
        raise InvalidRequestError(
            f"document={shown(given)} is not valid; it must be a text, or a list of texts or "
            "LlamaIndex documents.",
            parameter="document",
            value=given,
        )
    if label is None and pages > 1:
        label = number
    return Page(None if label is None else str(label), text)


def _spans(text: str, count: Callable[[str], int], most: int) -> Iterator[tuple[int, int]]:
    """Sentences put together until they are long enough, and cut where one alone is too long."""
    start = end = 0
    for found in _SENTENCE.finditer(text):
        if end > start and _too_long(text[start : found.end()], count, most):
            yield start, end
            start = end
        end = found.end()
        while end - start > 1 and _too_long(text[start:end], count, most):
            middle = _fitting(text[start : min(end, start + _CHARACTERS * most)], count, most)
            yield start, start + middle
            start += middle
    if end > start:
        yield start, end


def _too_long(text: str, count: Callable[[str], int], most: int) -> bool:
    """Without counting what is long anyway: cutting a text without sentences must not be slow."""
    return len(text) > _CHARACTERS * most or count(text) > most


def _fitting(text: str, count: Callable[[str], int], most: int) -> int:
    """Characters of a text that are at most so many tokens; at least one."""
    low, high = 1, max(1, len(text) - 1)
    while low < high:
        middle = (low + high + 1) // 2
        if count(text[:middle]) <= most:
            low = middle
        else:
            high = middle - 1
    return low

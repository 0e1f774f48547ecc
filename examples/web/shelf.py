"""Shelf: the documents that were uploaded, in memory, until they are removed. It knows no requests.

Texts may be UTF-8, UTF-16 with its mark, or GB 18030; PDF files need a text layer.
"""

from __future__ import annotations

import dataclasses
import secrets

from common.limits import passages_for
from common.pdf import read_pdf

from llamaindex_aquila2 import Aquila2
from llamaindex_aquila2.long_document import LongDocument

MOST = 20
MOST_CHARACTERS = 2_000_000


class RefusedError(Exception):
    """A file or a request that cannot be used; ``code`` is what the page explains."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Shelved:
    """A document: its name, the text of its pages, and what answers questions about it."""

    id: str
    name: str
    pages: list[str]
    document: LongDocument

    def described(self) -> dict[str, object]:
        """What the page shows of it."""
        tokens = self.document.tokens
        return {"id": self.id, "name": self.name, "tokens": tokens, "pages": self.pages}


class Shelf:
    """Up to twenty documents.

    Args:
        llm: Answers questions about them.
    """

    def __init__(self, llm: Aquila2) -> None:
        self._llm = llm
        self._documents: dict[str, Shelved] = {}

    def add(self, name: str, content: bytes) -> Shelved:
        """Read a file and keep its text; blocks while it is read.

        Raises:
            RefusedError: It is no text or PDF file, is locked or empty, or there is no room.
        """
        if len(self._documents) >= MOST:
            raise RefusedError("too_many")
        pages = read_pages(content)
        if not any(page.strip() for page in pages):
            raise RefusedError("no_text")
        if sum(map(len, pages)) > MOST_CHARACTERS:
            raise RefusedError("too_large")
        document = LongDocument(
            self._llm, pages if len(pages) > 1 else pages[0], **passages_for(self._llm)
        )
        shelved = Shelved(secrets.token_urlsafe(12), name[:200], pages, document)
        self._documents[shelved.id] = shelved
        return shelved

    def get(self, key: str) -> Shelved:
        """Return a document.

        Raises:
            RefusedError: It is not there.
        """
        if key not in self._documents:
            raise RefusedError("gone")
        return self._documents[key]

    def remove(self, key: str) -> None:
        """Forget a document; nothing happens if it is not there."""
        self._documents.pop(key, None)


def read_pages(content: bytes) -> list[str]:
    """The text of each page; a text file is one.

    Raises:
        RefusedError: It is neither.
    """
    if content.lstrip()[:5] == b"%PDF-":
        try:
            return read_pdf(content)
        except ValueError as error:
            raise RefusedError("locked" if "password" in str(error) else "bad_pdf") from error
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "gb18030"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return [text.replace("\r\n", "\n")]
    raise RefusedError("not_text")

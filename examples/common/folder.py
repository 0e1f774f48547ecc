"""Passages of a folder of texts: each paragraph under its document's title, with its place."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path

DOCUMENTS = Path(__file__).parent.parent / "documents"


@dataclasses.dataclass(frozen=True)
class Passage:
    """A paragraph: the title above it helps to find it; the place is that of the paragraph."""

    source: str
    start: int
    end: int
    text: str

    @property
    def id(self) -> str:
        """The same for the same text at the same place, so that an index can tell what is new."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.source}#{self.start}\n{self.text}"))


def read_folder(folder: Path = DOCUMENTS) -> list[Passage]:
    """Read every text of a folder, in the order of the names."""
    found = []
    for path in sorted(folder.glob("*.txt")):
        text = path.read_text("utf-8")
        title, *paragraphs = text.strip().split("\n\n")
        start = len(title)
        for paragraph in paragraphs:
            start = text.index(paragraph, start)
            end = start + len(paragraph)
            found.append(Passage(path.name, start, end, f"{title}\n{paragraph}"))
            start = end
    return found

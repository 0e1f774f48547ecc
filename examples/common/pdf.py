"""The text of a PDF file's pages, its lines put together again. It knows no framework."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from pypdf import PdfReader

from common.folder import Passage

MOST_PAGES = 2000
# A line that is shorter than this share of the page's longest ends a paragraph.
SHORT = 0.7
STOPS = tuple("。！？.!?:：")
# A full stop is followed by a space. Each character is read once: a line may be all dots.
SENTENCE = re.compile(r"(?s:.)(?:[^。！？.!?]++|[.!?]++(?!\s))*+(?:[。！？]++|[.!?]++\s++|\Z)")


def read_pdf(file: str | Path | bytes) -> list[str]:
    """Return the text of each page; empty for one that is only a picture.

    Raises:
        ValueError: It is no PDF file, is locked with a password, or has too many pages.
    """
    try:
        reader = PdfReader(io.BytesIO(file) if isinstance(file, bytes) else file)
        if reader.is_encrypted and not reader.decrypt(""):
            msg = "The PDF file is locked with a password."
            raise ValueError(msg)
        if len(reader.pages) > MOST_PAGES:
            msg = f"The PDF file has more than {MOST_PAGES} pages."
            raise ValueError(msg)
        return [unwrap(page.extract_text()) for page in reader.pages]
    except ValueError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are objects in it
        msg = f"The PDF file could not be read: {error}"
        raise ValueError(msg) from error


def pdf_passages(file: Path, most: int = 400) -> list[Passage]:
    """Cut the pages into passages of up to ``most`` characters; none goes over a page's end.

    Each names its page and its characters there. They end with a paragraph where one ends in time,
    otherwise with a sentence, otherwise anywhere.
    """
    found = []
    for number, page in enumerate(read_pdf(file), start=1):
        source, start, end = f"{file.name}, page {number}", 0, 0
        for piece in _pieces(page, most):
            if end > start and end - start + len(piece) > most:
                found.append(Passage(source, start, end, page[start:end].strip()))
                start = end
            end += len(piece)
        found.append(Passage(source, start, end, page[start:end].strip()))
    return [passage for passage in found if passage.text]


def _pieces(page: str, most: int) -> Iterator[str]:
    """The paragraphs; of those that are too long the sentences; of such sentences what fits."""
    for paragraph in page.splitlines(keepends=True):
        for sentence in SENTENCE.findall(paragraph) if len(paragraph) > most else [paragraph]:
            yield from (sentence[at : at + most] for at in range(0, len(sentence), most))


def unwrap(text: str) -> str:
    """Put the lines of a page together into paragraphs; Chinese has no space between them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    longest = max(map(len, lines), default=0)
    joined = ""
    for line in lines:
        if joined and not joined.endswith("\n"):
            joined += "" if joined[-1] > "\u2e80" or line[0] > "\u2e80" else " "
        joined += line
        if len(line) < SHORT * longest or line.endswith(STOPS):
            joined += "\n"
    return joined.strip()

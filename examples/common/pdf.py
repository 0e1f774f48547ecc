"""The text of a PDF file's pages, its lines put together again. It knows no framework."""

from __future__ import annotations

import io
from pathlib import Path

from pypdf import PdfReader

from common.folder import Passage

MOST_PAGES = 2000
# A line that is shorter than this share of the page's longest ends a paragraph.
SHORT = 0.7
STOPS = tuple("。！？.!?:：")


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

    Each names its page and its characters there. A longer paragraph is a passage of its own.
    """
    found = []
    for number, page in enumerate(read_pdf(file), start=1):
        source, start, end = f"{file.name}, page {number}", 0, 0
        for line in page.splitlines(keepends=True):
            if end > start and end - start + len(line) > most:
                found.append(Passage(source, start, end, page[start:end].strip()))
                start = end
            end += len(line)
        if page[start:end].strip():
            found.append(Passage(source, start, end, page[start:end].strip()))
    return found


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

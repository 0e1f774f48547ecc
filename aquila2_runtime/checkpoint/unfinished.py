"""Unfinished: a note in a cache that a download has begun and not ended. It fetches nothing.

What a killed download leaves can look whole by its names: the settings of a new revision beside the
weights of an old one, or all weights and no settings. Only the listing says what belongs together,
and offline there is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """The note about one repository at one revision.

    A cache that nothing can be written to is none that a download changes: there, nothing is noted.

    Attributes:
        path: Where it lies.
    """

    path: Path

    @classmethod
    def of(cls, folder: Path, repository: str, revision: str) -> Unfinished:
        """Name the note.

        Args:
            folder: Where the client keeps its locks, which it takes for nothing else.
            repository: Its id.
            revision: Branch, tag or commit.
        """
        name = f"{repository}@{revision}".replace("/", "--")
        return cls(folder / f"{name}.unfinished")

    @property
    def exists(self) -> bool:
        """Whether a download began here that did not end."""
        return self.path.is_file()

    def begin(self) -> None:
        """Note that one has begun."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()

    def end(self) -> None:
        """Everything is there and was checked."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

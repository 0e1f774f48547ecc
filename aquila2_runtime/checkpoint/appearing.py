"""Appearing: a directory that is there when all of it is, and not before. It writes no file in it.

Until then it is a hidden folder beside its place. What a killed process leaves of one is cleared
away by the next that makes the same directory: a lock on the folder dies with its process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from aquila2_runtime.errors import InvalidLoadOptionError

_SUFFIX: Final = ".partial"


def check_free(destination: Path) -> None:
    """Make sure that nothing has a name yet.

    Raises:
        InvalidLoadOptionError: Something has, or it is no name.
    """
    try:
        taken = destination.exists() or destination.is_symlink()
    except OSError as error:
        _refuse_place(destination, error)
    if taken:
        _refuse(destination, f"{destination} exists", "Name a new directory.")


@contextlib.contextmanager
def appearing(destination: Path) -> Iterator[Path]:
    """Give a folder beside a place that gets its name when all went well, and else goes.

    Args:
        destination: The new directory.

    Raises:
        InvalidLoadOptionError: It cannot be made, appeared meanwhile, or its disk became full.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _clear(destination)
        made = tempfile.mkdtemp(
            prefix=f".{destination.name}.", suffix=_SUFFIX, dir=destination.parent
        )
    except OSError as error:
        _refuse_place(destination, error)
    partial = Path(made)
    try:
        with _locked(partial):
            yield partial
            partial.chmod(0o755)
            if destination.exists():
                _refuse(destination, f"{destination} appeared meanwhile", "Name another.")
            partial.rename(destination)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _refuse(
                destination,
                f"The disk became full while {destination} was written",
                "Free some space, or name a directory on another disk.",
            )
        raise


def _clear(destination: Path) -> None:
    """Remove what processes that are no more have left of the same directory."""
    start = f".{destination.name}."
    for folder in destination.parent.iterdir():
        if folder.name.startswith(start) and folder.name.endswith(_SUFFIX):
            # Of another process that lives, or another's altogether: left alone.
            with contextlib.suppress(OSError), _locked(folder):
                shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, if the system has such locks; raises OSError where another does."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is cleared away there, as nothing can be told
        if any(folder.iterdir()):
            raise OSError(errno.ENOLCK, "no locks") from None
        yield
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _refuse_place(destination: Path, error: OSError) -> NoReturn:
    _refuse(
        destination,
        f"{str(destination)!r:.200} cannot be made: {error.strerror or type(error).__name__}",
        "Name a directory where you may write.",
    )


def _refuse(destination: Path, problem: str, hint: str) -> NoReturn:
    raise InvalidLoadOptionError(
        f"{problem}.", parameter="destination", value=str(destination), hint=hint
    )

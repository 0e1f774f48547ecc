"""The hub client's cache as it lies on disk: what is whole, what is there, whether more fits.

It knows the layout that the client documents (``models--owner--name`` with ``refs``, ``snapshots``
and ``blobs``) and asks no hub.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aquila2_runtime.checkpoint.hub_files import Fetched, looks_whole
from aquila2_runtime.checkpoint.transfer import RemoteFile, partial_path
from aquila2_runtime.checkpoint.unfinished import Unfinished
from aquila2_runtime.errors import DownloadError

COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def cache_folder(repository: str, cache_dir: str | None) -> Path:
    """Where the client keeps a repository."""
    from huggingface_hub import constants

    root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    return root / ("models--" + repository.replace("/", "--"))


def make_private(cache_dir: str | None) -> None:
    """Make a cache directory that was named and is not there yet; only its owner may read it."""
    if cache_dir is not None:
        Path(cache_dir).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)


def cached(folder: Path, revision: str, *, weights: bool = True) -> Fetched | None:
    """A whole copy of a revision, or one of all but its weights; None where there is none."""
    commit = revision
    if not COMMIT.fullmatch(revision):
        try:
            commit = (folder / "refs" / revision).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    path = folder / "snapshots" / commit
    if not COMMIT.fullmatch(commit) or unfinished(folder, commit).exists:
        return None
    return Fetched(path, commit) if looks_whole(path, weights=weights) else None


def unfinished(folder: Path, commit: str) -> Unfinished:
    """The note that a snapshot is being laid out."""
    return Unfinished.of(folder.parent / ".locks", folder.name, commit)


def remember(folder: Path, revision: str, commit: str) -> None:
    """Note which commit a branch was, as the client does, so that it is found while offline."""
    if revision == commit:
        return
    target = folder / "refs" / revision
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        # With the rights that a new file gets: others may share the cache, and tempfile's own are
        # for its owner alone.
        written = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            with written.open("x", encoding="utf-8") as file:
                file.write(commit)
            os.replace(written, target)
        finally:
            written.unlink(missing_ok=True)


def absent(folder: Path, commit: str, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """The files a snapshot does not have yet, or not with the size that the hub lists."""
    there = folder / "snapshots" / commit
    return [file for file in files if not _has(there / file.name, file)]


def drop_broken_copies(folder: Path, commit: str, files: Sequence[RemoteFile]) -> None:
    """Remove what copies that broke off left; the client takes any file of the name for whole.

    It copies where it cannot make links, under the file's own name. A link is never such a copy.
    """
    for file in files:
        path = folder / "snapshots" / commit / file.name
        if path.is_file() and not path.is_symlink() and not _has(path, file):
            with contextlib.suppress(OSError):  # another process may be copying still
                path.unlink()


def link_blobs(folder: Path, commit: str, files: Sequence[RemoteFile]) -> None:
    """Give blobs their names in a snapshot by hard links, for a cache without symbolic ones.

    The client would copy each, and every weight would lie on the disk twice. Windows makes hard
    links for everybody; what a disk cannot link, the client still copies.
    """
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.key is not None:
            with contextlib.suppress(OSError):
                os.link((folder / "blobs" / file.key).resolve(), snapshot / file.name)


def bytes_missing(folder: Path, files: Sequence[RemoteFile]) -> int:
    """How much of some files is not on the disk; what is there of one already counts."""
    return sum(file.size - _held(folder, file) for file in files)


def check_room(folder: Path, needed: int) -> None:
    """Refuse what the disk cannot hold.

    Args:
        folder: Where the files go.
        needed: Bytes that are still to come.

    Raises:
        DownloadError: With the bytes needed and free.
    """
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise DownloadError(
            f"{needed} bytes ({needed / 2**30:.1f} GiB) are needed on the disk of the cache; "
            f"{free} ({free / 2**30:.1f} GiB) are free.",
            parameter="cache_dir",
            value=str(folder.parent),
            hint="Free some space, or pass cache_dir on another disk.",
        )


def check_sizes(path: Path, files: Sequence[RemoteFile], repository: str) -> None:
    """Every file must be there with the size that the hub lists.

    Raises:
        DownloadError: One is not.
    """
    for file in files:
        here = path / file.name
        found = here.stat().st_size if here.is_file() else None
        if found is None or (file.size and found != file.size):
            raise DownloadError(
                f"{file.name} of {repository} arrived with {found} bytes; the hub lists "
                f"{file.size}.",
                parameter=file.name,
                value=found,
                hint="Delete the file from the cache and fetch it again.",
            )


def _has(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and (not file.size or path.stat().st_size == file.size)


def _held(folder: Path, file: RemoteFile) -> int:
    """Bytes of a file that are on the disk already."""
    if file.key is None:
        return 0
    for path in (folder / "blobs" / file.key, partial_path(folder, file)):
        with contextlib.suppress(OSError):
            return min(path.stat().st_size, file.size)
    return 0

"""Fetching files over HTTP into the hub client's cache: continued, then checked. It lists nothing.

The client itself keeps no partial file from one process to the next (as of 2.4), and compares
sizes only. Here a file grows under ``blobs/<hash>.incomplete``, whichever process writes it; a cut
connection or a killed process costs what was not yet written, and only what has the hash that the
hub states becomes a blob, which the client then finds in its cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import BinaryIO, Final

from aquila2_runtime.checkpoint.tally import Part, Reporter
from aquila2_runtime.errors import DownloadError

_WORKERS: Final = 4
# Seconds before each further try when a server fails or a connection breaks without any progress.
_WAITS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_TRIES: Final = 2
_CHUNK: Final = 1 << 20
_SERVER_FAULT: Final = 500
_PARTIAL: Final = 206
_TRY_AGAIN: Final = (408, 429)


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a hub.

    Attributes:
        name: Its path in the repository.
        size: Bytes.
        sha256: Of its contents, for files kept as large objects; else None.
        git_sha1: Of its contents as a git blob, for the others; else None.
    """

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def key(self) -> str | None:
        """Its name among the cache's blobs; None where the hub states no hash."""
        return self.sha256 or self.git_sha1


def partial_path(folder: Path, file: RemoteFile) -> Path:
    """Where a file grows until it is whole."""
    return folder / "blobs" / f"{file.key}.incomplete"


def fetch_blobs(
    folder: Path,
    files: Sequence[RemoteFile],
    urls: dict[str, str],
    headers: dict[str, str],
    reporter: Reporter,
) -> None:
    """Fetch files into a repository's blobs, several at a time.

    Args:
        folder: The repository's folder in the cache.
        files: With hashes.
        urls: Addresses by name.
        headers: Of every request.
        reporter: Told of every chunk.

    Raises:
        DownloadError: A file has the wrong hash, twice.
        Exception: Whatever the client raises when the hub refuses or cannot be reached.
    """
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(_WORKERS, max(1, len(files)))) as pool:
        jobs = [
            pool.submit(_fetch_one, folder, file, urls[file.name], headers, reporter)
            for file in files
        ]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException as error:
            # Ctrl-C too: the others stop at their next chunk, and keep what they have.
            reporter.failure = reporter.failure or error
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(
    folder: Path, file: RemoteFile, url: str, headers: dict[str, str], reporter: Reporter
) -> None:
    blob = folder / "blobs" / str(file.key)
    partial = partial_path(folder, file)
    part = Part(reporter)
    with _locked(folder.parent / ".locks" / folder.name / f"{file.key}.lock", reporter):
        if blob.exists():
            part.set(file.size)
            return
        for _ in range(_TRIES):
            _fill(partial, file, url, headers, part, reporter)
            if _intact(partial, file, reporter):
                os.replace(partial, blob)
                return
            # What an earlier try left may be at fault: once more, from the start.
            partial.unlink(missing_ok=True)
            part.set(0)
    raise DownloadError(
        f"{file.name} arrived damaged: its contents do not have the size and hash that the hub "
        f"states ({file.size} bytes, {file.key}).",
        parameter=file.name,
        value=file.key,
        hint="Try again later, or through another mirror (HF_ENDPOINT).",
    )


def _fill(
    partial: Path,
    file: RemoteFile,
    url: str,
    headers: dict[str, str],
    part: Part,
    reporter: Reporter,
) -> None:
    """Append to a partial file until it is whole, or turns out to be another."""
    waits = iter(_WAITS)
    with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as target:
        have = _held(target, file)
        while True:
            part.set(have)
            try:
                if have < file.size:
                    _receive(url, headers, target, have, file.size, part)
                return
            except Exception as error:
                reporter.check()
                target.flush()
                had, have = have, _held(target, file)
                if have > had:
                    waits = iter(_WAITS)
                wait = next(waits, None)
                if wait is None or not _worth_another(error):
                    raise
                _sleep(wait, reporter)


def _receive(
    url: str, headers: dict[str, str], target: BinaryIO, have: int, size: int, part: Part
) -> None:
    """Ask for what is missing, and write it as it comes, until the answer ends.

    Not by the client's own function: that hands out 10 MB at a time and drops what it holds when a
    connection breaks, so that a network which breaks more often never gets anywhere.

    Raises:
        EOFError: The answer ended too early.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined, unused-ignore]
        get_session,
        hf_raise_for_status,
    )

    # As it is: the place to go on from counts bytes of the file, not of a compressed answer.
    asked = {**headers, "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    with get_session().stream(
        "GET",
        url,
        headers=asked,
        follow_redirects=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    ) as response:
        if response.is_error:
            response.read()
            hf_raise_for_status(response)
        place = response.headers.get("Content-Range", "")
        if response.status_code != _PARTIAL or not place.startswith(f"bytes {have}-"):
            # Ranges are not known there: what follows is the file from its start.
            target.seek(0)
            target.truncate()
            part.set(0)
            have = 0
        for chunk in response.iter_bytes():
            target.write(chunk)
            part.add(len(chunk))
            have += len(chunk)
            if have > size:
                return  # more than there is: not what the hub lists, as the caller finds
    target.flush()
    if have < size:
        raise EOFError


def _held(target: BinaryIO, file: RemoteFile) -> int:
    """Bytes of the file so far, its end being where to go on; nothing if there are too many."""
    if target.seek(0, os.SEEK_END) > file.size:
        target.seek(0)
        target.truncate()
    return target.tell()


def _worth_another(error: Exception) -> bool:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        return status >= _SERVER_FAULT or status in _TRY_AGAIN
    # A broken connection, or fewer bytes than were announced; a full disk is neither.
    return not isinstance(error, OSError) or error.errno is None


def _sleep(seconds: float, reporter: Reporter) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        reporter.check()
        time.sleep(min(left, 0.2))


def _intact(path: Path, file: RemoteFile, reporter: Reporter) -> bool:
    """Whether a file has the hash that the hub states."""
    if path.stat().st_size != file.size:
        return False
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
    if not file.sha256:
        digest.update(b"blob %d\0" % file.size)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            reporter.check()
            digest.update(chunk)
    return digest.hexdigest() == file.key


@contextlib.contextmanager
def _locked(path: Path, reporter: Reporter) -> Iterator[None]:
    """Hold the lock that the hub client takes for the same blob, in this and other processes."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined, unused-ignore]

    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            reporter.check()
            try:
                stack.enter_context(WeakFileLock(path, timeout=1))
                break
            except Timeout:
                continue
        yield

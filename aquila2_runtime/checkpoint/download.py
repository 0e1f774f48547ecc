"""Fetching a checkpoint's files from Hugging Face into its cache. It knows no released names.

Only what loading needs is fetched: JSON, tokenizer files and safetensors; ``.bin`` shards only
where a repository has no safetensors; never code or other pickles. One commit serves every file.
Error texts carry no request, so no token can be in them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from pathlib import Path
from typing import Final

from aquila2_runtime.checkpoint.hub_cache import (
    COMMIT,
    absent,
    bytes_missing,
    cache_folder,
    cached,
    check_room,
    check_sizes,
    drop_broken_copies,
    link_blobs,
    make_private,
    remember,
    unfinished,
)
from aquila2_runtime.checkpoint.hub_files import Fetched, Progress, choose_files
from aquila2_runtime.checkpoint.tally import Reporter, bar_class
from aquila2_runtime.checkpoint.transfer import RemoteFile, fetch_blobs
from aquila2_runtime.checkpoint.unreachable import is_unreachable, status_of
from aquila2_runtime.errors import (
    CheckpointError,
    DownloadError,
    ModelNotFoundError,
)

_log = logging.getLogger(__name__)

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_REFUSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE`` forbids asking a hub."""
    yes = {"1", "on", "yes", "true"}
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").lower() in yes for name in names)


def fetch_huggingface(
    repository: str,
    *,
    revision: str | None,
    cache_dir: str | None,
    allow_pickle: bool,
    offline: bool,
    progress: Progress | None,
    weights: bool = True,
) -> Fetched:
    """Fetch from Hugging Face, or find in its cache.

    ``HF_ENDPOINT``, ``HF_HOME`` and the client's other variables are honoured. When the hub cannot
    be reached, a complete copy in the cache is used and said so in the log.

    Raises:
        ModelNotFoundError: No such repository or revision; or offline, and not in the cache.
        DownloadError: The hub could not be reached, or answered wrongly.
        WeightsError: The repository has no weights that may be read.
    """
    wanted = revision or "main"
    folder = cache_folder(repository, cache_dir)
    known = cached(folder, wanted, weights=weights)
    if known is not None and (offline or COMMIT.fullmatch(wanted)):
        return known
    if offline:
        raise ModelNotFoundError(
            f"{repository} at revision {wanted!r} is not in the cache, and the hub is off limits.",
            parameter="model",
            value=repository,
            hint="Fetch it once while online (aquila2 download), or give its directory.",
        )
    failure: CheckpointError
    reporter = Reporter(progress)
    try:
        commit, listed = _list_files(repository, wanted)
        chosen = choose_files(
            listed, allow_pickle=allow_pickle, repository=repository, weights=weights
        )
        files = [listed[name] for name in chosen]
        missing, noted = absent(folder, commit, files), unfinished(folder, commit).exists
        check_room(folder, bytes_missing(folder, missing))
        make_private(cache_dir)
        if missing:
            unfinished(folder, commit).begin()
        path = _snapshot(repository, commit, cache_dir, files, missing, reporter)
        check_sizes(path, files, repository)
        if weights or not noted:  # the note of somebody else's weights is not this one's to end
            unfinished(folder, commit).end()
        # Small files of a newer commit do not take the place of a copy that can be loaded offline.
        if weights or cached(folder, wanted) is None:
            remember(folder, wanted, commit)
        return Fetched(path, commit)
    except CheckpointError:
        raise
    except Exception as error:
        if reporter.callers is not None:
            raise reporter.callers from None
        if known is not None and (said := _why_as_it_is(error)) is not None:
            _log.warning(said, repository)
            return known
        failure = _translate(error, repository, wanted)
    # Outside the handler: the client's exception holds the request, and with it the token.
    raise failure


def _list_files(repository: str, revision: str) -> tuple[str, dict[str, RemoteFile]]:
    """Ask once which commit a revision is, and what its files are; all else uses that commit."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=_endpoint()).model_info(
        repository, revision=revision, files_metadata=True, timeout=30
    )
    if not info.sha or not COMMIT.fullmatch(info.sha):
        raise DownloadError(
            f"The hub named no commit for {repository} at {revision!r}.",
            parameter="revision",
            value=revision,
            hint="Check HF_ENDPOINT.",
        )
    return info.sha, {
        file.rfilename: RemoteFile(
            file.rfilename,
            file.size or 0,
            sha256=_hash(file.lfs.sha256 if file.lfs else None, 64),
            git_sha1=None if file.lfs else _hash(file.blob_id, 40),
        )
        for file in info.siblings or []
    }


def _hash(value: str | None, length: int) -> str | None:
    """A hash as the hub states it; it becomes a file's name, so anything else is none."""
    if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
        return value
    return None


def _snapshot(
    repository: str,
    commit: str,
    cache_dir: str | None,
    files: list[RemoteFile],
    missing: list[RemoteFile],
    reporter: Reporter,
) -> Path:
    """Fetch what is missing, then have the client lay the snapshot out."""
    from huggingface_hub import hf_hub_url, snapshot_download
    from huggingface_hub.file_download import are_symlinks_supported
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined, unused-ignore]

    reporter.total = sum(file.size for file in files)
    reporter.add(reporter.total - sum(file.size for file in missing))
    # Where a mirror states no hash, the client fetches the file itself.
    hashed = [file for file in missing if file.key is not None and file.size]
    urls = {
        file.name: hf_hub_url(repository, file.name, revision=commit, endpoint=_endpoint())
        for file in hashed
    }
    folder = cache_folder(repository, cache_dir)
    fetch_blobs(folder, hashed, urls, build_hf_headers(), reporter)
    drop_broken_copies(folder, commit, missing)
    if missing and not are_symlinks_supported(folder):
        link_blobs(folder, commit, missing)
    path = snapshot_download(
        repository,
        revision=commit,
        cache_dir=cache_dir,
        allow_patterns=[file.name for file in files],
        endpoint=_endpoint(),
        max_workers=4,
        tqdm_class=bar_class(reporter.add),
    )
    reporter.finish()
    return Path(path)


def _endpoint() -> str | None:
    """The hub's address, read now: the client reads it only when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _why_as_it_is(error: Exception) -> str | None:
    """Why a copy that is whole is used as it is, for the log; None where the error is no reason."""
    if is_unreachable(error):
        return "The hub cannot be reached; the cached copy of %s is used."
    if isinstance(error, OSError) and error.errno in _REFUSED:
        # A cache that others share; it is theirs to bring up to date.
        return "The cache may not be written to; its copy of %s is used."
    return None


def _translate(error: Exception, repository: str, revision: str) -> CheckpointError:
    """Say what the client met, without its text: that can hold addresses and headers."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{repository} is gated.",
            parameter="model",
            value=repository,
            hint="Accept its conditions on the hub, and log in with its client.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFoundError(
            f"The hub has no repository {repository}, or it is private.",
            parameter="model",
            value=repository,
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(
            f"{repository} has no revision {revision!r}.", parameter="revision", value=revision
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return DownloadError(
            f"The disk of the cache became full while {repository} was fetched.",
            parameter="cache_dir",
            hint="Free some space, or pass cache_dir on another disk. What was fetched is kept.",
        )
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return DownloadError(
            f"The cache may not be written to ({errno.errorcode[error.errno]}), as {repository} "
            "needs it.",
            parameter="cache_dir",
            hint="Pass cache_dir, or set HF_HOME, to a directory that is yours to write to; "
            "offline=True takes the whole copy that is there, if there is one.",
        )
    status = status_of(error)
    seen = type(error).__name__ if status is None else f"{type(error).__name__}, status {status}"
    return DownloadError(
        f"{repository} could not be fetched ({seen}).",
        parameter="model",
        value=repository,
        hint="Check the connection (HF_ENDPOINT names another hub), or give a local directory. "
        "What was fetched is kept; the next try goes on from there.",
    )

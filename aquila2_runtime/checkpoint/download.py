"""Fetching a checkpoint's files from Hugging Face into its cache. It knows no released names.

Only what loading needs is fetched: JSON, tokenizer files and safetensors; ``.bin`` shards only
where a repository has no safetensors; never code or other pickles. One commit serves every file.
Error texts carry no request, so no token can be in them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from aquila2_runtime.checkpoint.hub_files import Fetched, Progress, choose_files, weights_complete
from aquila2_runtime.errors import (
    CheckpointError,
    DownloadError,
    ModelNotFoundError,
)

_log = logging.getLogger(__name__)

_TOKENIZERS: Final = ("tokenizer.json", "vocab.json", "tokenizer.model")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SERVER_FAULT: Final = 500


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
    folder = _cache_folder(repository, cache_dir)
    known = _cached(folder, wanted)
    if known is not None and (offline or _COMMIT.fullmatch(wanted)):
        return known
    if offline:
        raise ModelNotFoundError(
            f"{repository} at revision {wanted!r} is not in the cache, and the hub is off limits.",
            parameter="model",
            value=repository,
            hint="Fetch it once while online (aquila2 download), or give its directory.",
        )
    failure: CheckpointError
    reporter = _Reporter(progress)
    try:
        commit, sizes = _list_files(repository, wanted)
        files = choose_files(sizes, allow_pickle=allow_pickle, repository=repository)
        missing = {name: sizes[name] for name in files}
        _check_room(folder, commit, missing)
        reporter.total = sum(missing.values())
        path = _snapshot(repository, commit, cache_dir, files, reporter)
        _check_sizes(path, missing, repository)
        _remember(folder, wanted, commit)
        return Fetched(path, commit)
    except CheckpointError:
        raise
    except Exception as error:
        if reporter.failure is not None:
            raise reporter.failure from None
        if known is not None and _unreachable(error):
            _log.warning("The hub cannot be reached; the cached copy of %s is used.", repository)
            return known
        failure = _translate(error, repository, wanted)
    # Outside the handler: the client's exception holds the request, and with it the token.
    raise failure


class _Reporter:
    """Turns the client's progress bars into calls of one function, from whatever thread."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.total = 0
        self.failure: BaseException | None = None

    def report(self, done: int) -> None:
        if self.progress is None or self.failure is not None:
            return
        try:
            self.progress("downloading", min(done, self.total), self.total)
        except BaseException as error:
            self.failure = error
            raise

    def bar_class(self) -> type[Any]:
        """Return a silent bar; the one that counts the bytes written reports them."""
        from huggingface_hub.utils.tqdm import tqdm

        reporter = self

        class Bar(tqdm):  # type: ignore[misc, unused-ignore]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                described = str(kwargs.get("desc") or "")
                self._counts = kwargs.get("unit") == "B" and "Downloading" not in described
                self._written = int(kwargs.get("initial") or 0)
                silent = {**kwargs, "disable": True}
                super().__init__(*args, **silent)  # type: ignore[no-untyped-call, unused-ignore]

            def update(self, n: float | None = 1) -> bool | None:
                if self._counts:
                    self._written += int(n or 0)
                    reporter.report(self._written)
                return None

        return Bar


def _list_files(repository: str, revision: str) -> tuple[str, dict[str, int]]:
    """Ask once which commit a revision is, and its files' sizes; all else uses that commit."""
    from huggingface_hub import HfApi

    info = HfApi(endpoint=_endpoint()).model_info(
        repository, revision=revision, files_metadata=True, timeout=30
    )
    if not info.sha or not _COMMIT.fullmatch(info.sha):
        raise DownloadError(
            f"The hub named no commit for {repository} at {revision!r}.",
            parameter="revision",
            value=revision,
            hint="Check HF_ENDPOINT.",
        )
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or []}


def _snapshot(
    repository: str, commit: str, cache_dir: str | None, files: list[str], reporter: _Reporter
) -> Path:
    from huggingface_hub import snapshot_download

    if cache_dir is not None:
        Path(cache_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    reporter.report(0)
    path = snapshot_download(
        repository,
        revision=commit,
        cache_dir=cache_dir,
        allow_patterns=files,
        endpoint=_endpoint(),
        max_workers=4,
        tqdm_class=reporter.bar_class(),
    )
    reporter.report(reporter.total)
    return Path(path)


def _endpoint() -> str | None:
    """The hub's address, read now: the client reads it only when it is imported."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _cache_folder(repository: str, cache_dir: str | None) -> Path:
    from huggingface_hub import constants

    root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    return root / ("models--" + repository.replace("/", "--"))


def _cached(folder: Path, revision: str) -> Fetched | None:
    commit = revision
    if not _COMMIT.fullmatch(revision):
        try:
            commit = (folder / "refs" / revision).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    path = folder / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not (path / "config.json").is_file():
        return None
    if not any((path / name).is_file() for name in _TOKENIZERS) or not weights_complete(path):
        return None
    return Fetched(path, commit)


def _remember(folder: Path, revision: str, commit: str) -> None:
    """Note which commit a branch was, as the client does, so that it is found while offline."""
    if revision == commit:
        return
    target = folder / "refs" / revision
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(commit)
        os.replace(name, target)


def _check_room(folder: Path, commit: str, sizes: dict[str, int]) -> None:
    there = folder / "snapshots" / commit
    needed = sum(size for name, size in sizes.items() if not (there / name).is_file())
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise DownloadError(
            f"{needed / 2**30:.1f} GiB are needed on the disk of the cache; "
            f"{free / 2**30:.1f} GiB are free.",
            parameter="cache_dir",
            value=str(folder.parent),
            hint="Free some space, or pass cache_dir on another disk.",
        )


def _check_sizes(path: Path, sizes: dict[str, int], repository: str) -> None:
    for name, size in sizes.items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found is None or (size and found != size):
            raise DownloadError(
                f"{name} of {repository} arrived with {found} bytes; the hub lists {size}.",
                parameter=name,
                value=found,
                hint="Delete the file from the cache and fetch it again.",
            )


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _unreachable(error: Exception) -> bool:
    status = _status(error)
    return status is None or status >= _SERVER_FAULT


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
    status = _status(error)
    seen = type(error).__name__ if status is None else f"{type(error).__name__}, status {status}"
    return DownloadError(
        f"{repository} could not be fetched ({seen}).",
        parameter="model",
        value=repository,
        hint="Check the connection (HF_ENDPOINT names another hub), or give a local directory. "
        "What was fetched is kept; the next try goes on from there.",
    )

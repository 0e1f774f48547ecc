"""Fetching a checkpoint's files from ModelScope by its own client. It knows no released names.

The client continues partial files, and compares sizes and hashes with the hub's listing. What is
chosen, whether it fits the disk, and the progress are ours. Its downloads name no commit: one
listing says what belongs together, every file must have the size listed there, and until all have,
a note says so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from aquila2_runtime.checkpoint.hub_cache import check_room, check_sizes, make_private
from aquila2_runtime.checkpoint.hub_files import Fetched, Progress, choose_files, looks_whole
from aquila2_runtime.checkpoint.tally import Reporter
from aquila2_runtime.checkpoint.transfer import RemoteFile
from aquila2_runtime.checkpoint.unfinished import Unfinished
from aquila2_runtime.checkpoint.unreachable import is_unreachable
from aquila2_runtime.errors import (
    CheckpointError,
    DownloadError,
    MissingDependencyError,
    ModelNotFoundError,
)

_log = logging.getLogger(__name__)

# Where the client has no revision to name a folder by.
_MAIN: Final = "master"


def fetch_modelscope(
    repository: str,
    *,
    revision: str | None,
    cache_dir: str | None,
    allow_pickle: bool,
    offline: bool,
    progress: Progress | None,
    weights: bool = True,
) -> Fetched:
    """Fetch from ModelScope, or find in its client's cache.

    ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_CACHE`` and the client's other variables are honoured.
    When the hub cannot be reached, a whole copy in the cache is used and said so in the log.

    Raises:
        MissingDependencyError: The client is not installed.
        ModelNotFoundError: No such repository or revision; or offline, and not whole in the cache.
        DownloadError: The hub could not be reached, or answered wrongly.
        WeightsError: The repository has no weights that may be read.
    """
    _require_client()
    snapshot = _Snapshot(repository, revision, cache_dir)
    if offline:
        return snapshot.whole(weights=weights)
    failure: CheckpointError
    reporter = Reporter(progress)
    try:
        return _fetch(snapshot, reporter, allow_pickle=allow_pickle, weights=weights)
    except CheckpointError:
        raise
    except _StoppedError as ended:
        raise reporter.callers or ended from None
    except Exception as error:
        if reporter.callers is not None:
            raise reporter.callers from None
        if all(map(is_unreachable, _causes(error))):
            with contextlib.suppress(ModelNotFoundError):
                known = snapshot.whole(weights=weights)
                _log.warning(
                    "The hub cannot be reached; the cached copy of %s is used.", repository
                )
                return known
        failure = _translate(error, snapshot)
    # Outside the handler: the client's exception may hold the request, and with it the token.
    raise failure


class _StoppedError(BaseException):
    """The caller ends the download. No ``Exception``: those the client takes for a bad network."""


def _require_client() -> None:
    try:
        import modelscope  # noqa: F401
    except ImportError:
        raise MissingDependencyError(
            'source="modelscope" needs the modelscope package.',
            parameter="source",
            value="modelscope",
            hint="Install it: pip install 'aquila2[modelscope]'.",
        ) from None


def _fetch(
    snapshot: _Snapshot, reporter: Reporter, *, allow_pickle: bool, weights: bool
) -> Fetched:
    listed = snapshot.listed()
    chosen = choose_files(
        listed, allow_pickle=allow_pickle, repository=snapshot.repository, weights=weights
    )
    files = [listed[name] for name in chosen]
    known = snapshot.find()
    missing = sum(file.size - _held(known, file) for file in files)
    check_room(known or snapshot.root / "repository", missing)
    reporter.total = sum(file.size for file in files)
    reporter.add(0)
    make_private(snapshot.cache_dir)
    noted = snapshot.unfinished.exists
    beside_weights = known is not None and looks_whole(known)
    if missing:
        snapshot.unfinished.begin()
    path = snapshot.download(chosen, reporter)
    check_sizes(path, files, snapshot.repository)
    # One folder for all commits: small files that were fetched beside weights may be a mix of two,
    # and the note, which the first of them wrote, stays until the weights are looked at too.
    if weights or not (noted or beside_weights):
        snapshot.unfinished.end()
    reporter.finish()
    return Fetched(path, snapshot.revision)


@dataclasses.dataclass(frozen=True, slots=True)
class _Snapshot:
    """A repository at a revision, as the client lists, finds and fetches it."""

    repository: str
    revision: str | None
    cache_dir: str | None

    @property
    def root(self) -> Path:
        """Where the client keeps everything."""
        default = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
        return Path(self.cache_dir or default).expanduser()

    @property
    def unfinished(self) -> Unfinished:
        """The note that files of it are being fetched."""
        return Unfinished.of(self.root / ".lock", self.repository, self.revision or _MAIN)

    def listed(self) -> dict[str, RemoteFile]:
        """Every file on the hub, by its path."""
        from modelscope.hub.api import HubApi

        found = HubApi().get_model_files(self.repository, revision=self.revision, recursive=True)
        files = [RemoteFile(str(file["Path"]), int(file["Size"] or 0)) for file in found]
        return {file.name: file for file in files}

    def find(self) -> Path | None:
        """Where the client has some of it already; None where it has nothing."""
        try:
            return self._client(local_files_only=True)
        except Exception:  # whatever it raises, there is no such folder
            return None

    def whole(self, *, weights: bool) -> Fetched:
        """What the client has, if that is all, or all but the weights.

        Raises:
            ModelNotFoundError: It is not.
        """
        path = self.find()
        if path is None or self.unfinished.exists or not looks_whole(path, weights=weights):
            what = "is not in ModelScope's cache" if path is None else "is not whole in the cache"
            raise ModelNotFoundError(
                f"{self.repository} {what}, and the hub is off limits.",
                parameter="model",
                value=self.repository,
                hint="Fetch it once while online (aquila2 download), or give its directory.",
            )
        return Fetched(path, self.revision)

    def download(self, names: Sequence[str], reporter: Reporter) -> Path:
        """Fetch files that are not there or are not as listed; returns their folder."""
        bar = _bar(reporter, self.unfinished.begin)
        return self._client(allow_patterns=list(names), progress_callbacks=[bar])

    def _client(self, **options: Any) -> Path:
        from modelscope import snapshot_download

        return Path(
            snapshot_download(
                self.repository, revision=self.revision, cache_dir=self.cache_dir, **options
            )
        )


def _bar(reporter: Reporter, begin: Callable[[], None]) -> type[Any]:
    """What the client makes one of per file that it fetches, and tells of what it wrote."""
    from modelscope.hub.callback import ProgressCallback

    class Bar(ProgressCallback):  # type: ignore[misc, unused-ignore]
        def __init__(self, filename: str, file_size: int) -> None:
            super().__init__(filename, file_size)
            # The hub may have another file of the same size now.
            begin()

        def update(self, size: int) -> None:
            try:
                reporter.add(size)
            except Exception as error:
                raise _StoppedError from error

    return Bar


def _held(folder: Path | None, file: RemoteFile) -> int:
    """Bytes of a file that are on the disk already: whole, growing, or in parts."""
    if folder is None:
        return 0
    kinds = re.compile(re.escape(file.name) + r"(\.incomplete|_\d+_\d+)?")
    there = [path for path in folder.glob(f"{file.name}*") if kinds.fullmatch(path.name)]
    return min(file.size, sum(path.stat().st_size for path in there))


def _causes(error: Exception) -> list[Exception]:
    """What went wrong: several files may have failed, and then the client's error holds theirs."""
    of_files = getattr(error, "failed_files", None)
    return list(of_files.values()) if isinstance(of_files, dict) and of_files else [error]


def _translate(error: Exception, snapshot: _Snapshot) -> CheckpointError:
    """Say what the client met, without its text: that can hold addresses and headers."""
    causes = _causes(error)
    if any(getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return DownloadError(
            f"The disk of the cache became full while {snapshot.repository} was fetched.",
            parameter="cache_dir",
            value=str(snapshot.root),
            hint="Free some space, or pass cache_dir on another disk. What was fetched is kept.",
        )
    # By name: where the class lies changed from one version of the client to the next.
    if any(kind.__name__ == "NotExistError" for kind in type(error).__mro__):
        return ModelNotFoundError(
            f"ModelScope has no repository {snapshot.repository} with the revision "
            f"{snapshot.revision or _MAIN!r}, or it is private.",
            parameter="model",
            value=snapshot.repository,
            hint='Check the id, or use source="huggingface".',
        )
    return DownloadError(
        f"ModelScope did not deliver {snapshot.repository} ({type(causes[-1]).__name__}).",
        parameter="model",
        value=snapshot.repository,
        hint='Check the id and the connection, or use source="huggingface". What was fetched is '
        "kept; the next try goes on from there.",
    )

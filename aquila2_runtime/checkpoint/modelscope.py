"""Fetching a checkpoint's files from ModelScope by its own client. It knows no released names.

The client continues partial files, and compares sizes and hashes with the hub's listing. What is
chosen, whether it fits the disk, and the progress are ours. Its downloads name no commit: one
listing says what belongs together, and every file must have the size listed there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aquila2_runtime.checkpoint.hub_cache import check_room, check_sizes
from aquila2_runtime.checkpoint.hub_files import Fetched, Progress, choose_files, weights_complete
from aquila2_runtime.checkpoint.tally import Reporter
from aquila2_runtime.checkpoint.transfer import RemoteFile
from aquila2_runtime.errors import (
    CheckpointError,
    DownloadError,
    MissingDependencyError,
    ModelNotFoundError,
)


def fetch_modelscope(
    repository: str,
    *,
    revision: str | None,
    cache_dir: str | None,
    allow_pickle: bool,
    offline: bool,
    progress: Progress | None,
) -> Fetched:
    """Fetch from ModelScope, or find in its client's cache.

    ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_CACHE`` and the client's other variables are honoured.

    Raises:
        MissingDependencyError: The client is not installed.
        ModelNotFoundError: Offline, and not in the cache.
        DownloadError: The hub could not be reached, or has no such repository.
        WeightsError: The repository has no weights that may be read.
    """
    try:
        from modelscope import snapshot_download
        from modelscope.hub.api import HubApi
    except ImportError:
        raise MissingDependencyError(
            'source="modelscope" needs the modelscope package.',
            parameter="source",
            value="modelscope",
            hint="Install it: pip install 'aquila2[modelscope]'.",
        ) from None
    failure: CheckpointError
    reporter = Reporter(progress)
    try:
        if offline:
            path = snapshot_download(
                repository, revision=revision, cache_dir=cache_dir, local_files_only=True
            )
            return _whole(Path(path), repository, revision)
        listed = {
            str(file["Path"]): RemoteFile(str(file["Path"]), int(file["Size"] or 0))
            for file in HubApi().get_model_files(repository, revision=revision, recursive=True)
        }
        chosen = choose_files(listed, allow_pickle=allow_pickle, repository=repository)
        files = [listed[name] for name in chosen]
        known = _known(snapshot_download, repository, revision, cache_dir)
        check_room(
            known or _cache(cache_dir) / "repository",
            [file for file in files if known is None or not (known / file.name).is_file()],
        )
        reporter.total = sum(file.size for file in files)
        reporter.add(0)
        path = snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=chosen,
            progress_callbacks=[_bar(reporter)],
        )
        check_sizes(Path(path), files, repository)
        reporter.finish()
        return Fetched(Path(path), revision)
    except CheckpointError:
        raise
    except Exception as error:
        if reporter.callers is not None:
            raise reporter.callers from None
        failure = _translate(error, repository, offline=offline)
    # Outside the handler: the client's exception may hold the request, and with it the token.
    raise failure


def _bar(reporter: Reporter) -> type[Any]:
    """What the client makes one of per file, and tells of what it wrote."""
    from modelscope.hub.callback import ProgressCallback

    class Bar(ProgressCallback):  # type: ignore[misc, unused-ignore]
        def update(self, size: int) -> None:
            reporter.add(size)

    return Bar


def _known(
    snapshot_download: Any, repository: str, revision: str | None, cache_dir: str | None
) -> Path | None:
    """Where the client has some of the repository already; None where it has nothing."""
    try:
        found = snapshot_download(
            repository, revision=revision, cache_dir=cache_dir, local_files_only=True
        )
    except Exception:  # whatever it raises, there is no such folder
        return None
    return Path(found)


def _cache(cache_dir: str | None) -> Path:
    default = os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope"
    return Path(cache_dir or default).expanduser()


def _whole(path: Path, repository: str, revision: str | None) -> Fetched:
    if not (path / "config.json").is_file() or not weights_complete(path):
        raise ModelNotFoundError(
            f"The copy of {repository} in the cache is not whole, and the hub is off limits.",
            parameter="model",
            value=repository,
            hint="Fetch it once while online (aquila2 download), or give its directory.",
        )
    return Fetched(path, revision)


def _translate(error: Exception, repository: str, *, offline: bool) -> CheckpointError:
    kind = type(error).__name__
    if offline:
        return ModelNotFoundError(
            f"{repository} is not in ModelScope's cache, and the hub is off limits.",
            parameter="model",
            value=repository,
            hint="Fetch it once while online (aquila2 download), or give its directory.",
        )
    return DownloadError(
        f"ModelScope did not deliver {repository} ({kind}).",
        parameter="model",
        value=repository,
        hint='Check the id and the connection, or use source="huggingface". What was fetched is '
        "kept; the next try goes on from there.",
    )

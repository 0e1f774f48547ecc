"""Fetching a checkpoint's files from ModelScope by its own client. It knows no released names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aquila2_runtime.checkpoint.hub_files import Fetched, Progress, choose_files
from aquila2_runtime.errors import DownloadError, MissingDependencyError


def fetch_modelscope(
    repository: str,
    *,
    revision: str | None,
    cache_dir: str | None,
    allow_pickle: bool,
    offline: bool,
    progress: Progress | None,
) -> Fetched:
    """Fetch from ModelScope by its own client; its downloads name no commit.

    Raises:
        MissingDependencyError: The client is not installed.
        DownloadError: The hub could not be reached, or has no such repository.
        WeightsError: The repository has no weights that may be read.
    """
    try:
        from modelscope import snapshot_download
    except ImportError:
        raise MissingDependencyError(
            'source="modelscope" needs the modelscope package.',
            parameter="source",
            value="modelscope",
            hint="Install it: pip install 'aquila2[modelscope]'.",
        ) from None
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir}
    options["local_files_only"] = offline
    if progress is not None:
        progress("downloading", 0, None)
    patterns = ["*.json", "merges.txt", "tokenizer.model", "model*.safetensors"]
    try:
        path = Path(snapshot_download(repository, allow_patterns=patterns, **options))
        if allow_pickle and not any(path.glob("model*.safetensors")):
            patterns[-1] = "pytorch_model*.bin"
            path = Path(snapshot_download(repository, allow_patterns=patterns, **options))
    except Exception as error:
        kind = type(error).__name__
    else:
        choose_files(
            (file.name for file in path.iterdir()), allow_pickle=allow_pickle, repository=repository
        )
        return Fetched(path, revision)
    raise DownloadError(
        f"ModelScope did not deliver {repository} ({kind}).",
        parameter="model",
        value=repository,
        hint='Check the id and the connection, or use source="huggingface".',
    )

"""From what a caller names to a directory: local, embedded or fetched. It opens no weights."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Final, NoReturn

from aquila2_runtime.catalog import RELEASED, Released, find_released, suggest, template_of
from aquila2_runtime.checkpoint.download import fetch_huggingface, is_offline
from aquila2_runtime.checkpoint.hub_files import Fetched, Progress
from aquila2_runtime.checkpoint.modelscope import fetch_modelscope
from aquila2_runtime.errors import InvalidLoadOptionError, ModelNotFoundError

_HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_REVISION: Final = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)
# ``models--owner--name`` is Hugging Face's, ``models/owner--name`` ModelScope's.
_CACHE_FOLDER: Final = re.compile(r"models(--|/)(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)", re.ASCII)
_SOURCES: Final = ("huggingface", "modelscope")
_MAX_NAME: Final = 192
_DEMO: Final = Path(__file__).parent.parent / "demo"


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedCheckpoint:
    """A checkpoint on this machine.

    Attributes:
        path: Its directory.
        name: What to call it: the released name, the hub id, or the directory's name.
        revision: Commit on the hub; None for a local or embedded directory.
        source: "local", "embedded", "huggingface" or "modelscope".
        template: Its chat template by the catalogue; None when that does not say.
    """

    path: Path
    name: str
    revision: str | None
    source: str
    template: str | None


def resolve(
    model: str | os.PathLike[str],
    *,
    source: str | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    allow_pickle: bool = True,
    offline: bool | None = None,
    progress: Progress | None = None,
    weights: bool = True,
) -> ResolvedCheckpoint:
    """Find a checkpoint's directory, fetching it where it must.

    Args:
        model: A directory (one that exists is used and no hub is asked), a released name in any
            letter case with or without ``BAAI/``, or ``owner/name`` on a hub.
        source: "huggingface" (also None) or "modelscope".
        revision: Branch, tag or commit; None is the main branch.
        cache_dir: Where downloads are kept; None is the client's own place.
        allow_pickle: Whether ``.bin`` shards may be fetched where there is no safetensors.
        offline: Ask no hub; None follows ``HF_HUB_OFFLINE``.
        progress: Called with "downloading", bytes done and bytes in all.
        weights: Whether they are wanted: False fetches the small files alone.

    Raises:
        ModelNotFoundError: Nothing has that name; near ones are suggested.
        InvalidLoadOptionError: A malformed source or revision, or a revision of a directory.
        DownloadError: The hub could not be reached or answered wrongly.
        WeightsError: The repository has no weights that may be read.
        MissingDependencyError: The hub's client is not installed.
    """
    name = os.fspath(model)
    _check_options(source, revision)
    if not name.strip() or "\0" in name:
        _unknown(name, "is no name")
    entry = find_released(name)
    directory = _directory(name)
    if directory is not None:
        _no_revision(revision, f"{name:.100} is a directory on this machine")
        path = directory.resolve()
        return ResolvedCheckpoint(path, *_name_of(directory, path))
    if entry is not None and entry.embedded:
        _no_revision(revision, f"{entry.name} ships with the package")
        return _embedded(entry)
    repository = _repository(name, entry, source)
    fetch = fetch_modelscope if source == "modelscope" else fetch_huggingface
    try:
        fetched: Fetched = fetch(
            repository,
            revision=revision,
            cache_dir=None if cache_dir is None else os.fspath(cache_dir),
            allow_pickle=allow_pickle,
            offline=is_offline() if offline is None else offline,
            progress=progress,
            weights=weights,
        )
    except ModelNotFoundError as error:
        raise (_suggesting(error, name) if entry is None else error) from None
    called = entry.name if entry is not None else repository
    template = template_of(repository)
    return ResolvedCheckpoint(
        fetched.path, called, fetched.commit, source or "huggingface", template
    )


def _check_options(source: str | None, revision: str | None) -> None:
    if source is not None and source not in _SOURCES:
        raise InvalidLoadOptionError(
            f"source={source!r:.60} is not known.",
            parameter="source",
            value=source,
            hint=f"Known: {', '.join(_SOURCES)}.",
        )
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InvalidLoadOptionError(
            f"revision={revision!r:.100} is no branch, tag or commit.",
            parameter="revision",
            value=revision,
        )


def _directory(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, RuntimeError, ValueError):
        return None
    if exists:
        _unknown(name, "is a file", "Give the directory that holds config.json and the weights.")
    if path.is_absolute() or name.startswith((".", "~")) or "\\" in name:
        _unknown(name, "is no directory on this machine", "Check the path.")
    return None


def _embedded(entry: Released) -> ResolvedCheckpoint:
    if not (_DEMO / "config.json").is_file():
        _unknown(entry.name, "is not part of this installation")
    return ResolvedCheckpoint(_DEMO, entry.name, None, "embedded", entry.template)


def _name_of(given: Path, path: Path) -> tuple[str, None, str, str | None]:
    """Name a local directory, and its template if a name of it says that.

    Args:
        given: As the caller wrote it; it may be a link that is named after the model.
        path: Where it truly is.
    """
    name = _called(given.absolute())
    if find_released(name) is None and template_of(name) is None:
        name = _called(path)
    return name, None, "local", template_of(name)


def _called(path: Path) -> str:
    """The hub id that a directory's place in a hub's cache says, or else its own name."""
    folder = path.parent.parent
    if path.parent.name == "snapshots":
        for written in (folder.name, f"{folder.parent.name}/{folder.name}"):
            cached = _CACHE_FOLDER.fullmatch(written)
            if cached is not None:
                return f"{cached['owner']}/{cached['name']}"
    return path.name


def _no_revision(revision: str | None, why: str) -> None:
    if revision is not None:
        raise InvalidLoadOptionError(
            f"revision={revision!r:.60}, but {why}.",
            parameter="revision",
            value=revision,
            hint="Leave revision out, or name the model by its hub id.",
        )


def _repository(name: str, entry: Released | None, source: str | None) -> str:
    if entry is not None:
        repository = entry.modelscope if source == "modelscope" else entry.huggingface
        if repository is None and "/" in name:  # whoever names it in full may know better
            repository = entry.huggingface
        if repository is None:
            hint = f'Use source="huggingface", or try "{entry.huggingface}" in full.'
            _unknown(name, "is not known to be on ModelScope", hint)
        return repository
    if not _HUB_ID.fullmatch(name) or ".." in name or len(name) > _MAX_NAME:
        _unknown(name, "is neither a directory, a released name nor owner/name on a hub")
    return name


def _suggesting(error: ModelNotFoundError, name: str) -> ModelNotFoundError:
    """The same error, naming the released checkpoints that are spelled alike."""
    near = suggest(name)
    if not near:
        return error
    hint = " ".join(filter(None, (error.hint, f"Did you mean {_listed(near)}?")))
    return ModelNotFoundError(
        error.message, parameter=error.parameter, value=error.value, hint=hint
    )


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(names)


def _unknown(name: str, problem: str, hint: str | None = None) -> NoReturn:
    near = suggest(name)
    released = f"Released: {', '.join(entry.name for entry in RELEASED)}."
    raise ModelNotFoundError(
        f"{name!r:.100} {problem}.",
        parameter="model",
        value=name,
        hint=hint or (f"Did you mean {_listed(near)}?" if near else released),
    )

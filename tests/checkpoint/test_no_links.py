"""Downloads into a cache where no links can be made, as on Windows without its developer mode."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from huggingface_hub import file_download

from tests.checkpoint.hub_server import Hub
from tests.checkpoint.test_download import fetch, files_of
from tests.checkpoint.test_transfer import SHARD, check_whole

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"])]


@pytest.fixture
def files(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A repository, and a client that makes no links."""
    monkeypatch.setattr(file_download, "are_symlinks_supported", lambda *_: False)
    made = files_of(tmp_path)
    hub.add("someone/model", made)
    return made


def bytes_on_disk(tmp_path: Path) -> int:
    """Of all blobs and snapshots; what has two names counts once."""
    folder = tmp_path / "cache" / "models--someone--model"
    places = [*folder.glob("blobs/*"), *folder.glob("snapshots/*/*")]
    return sum({place.stat().st_ino: place.stat().st_size for place in places}.values())


def test_every_file_lies_on_the_disk_once(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    """The client copied each blob: a model of 14 GB took 28."""
    found = fetch(tmp_path)
    check_whole(found.path, files)
    assert not any(file.is_symlink() for file in found.path.iterdir())
    assert bytes_on_disk(tmp_path) == sum(map(len, files.values()))
    hub.requests.clear()
    assert fetch(tmp_path) == found
    assert hub.fetched() == set()
    assert fetch(tmp_path, offline=True) == found


def test_a_new_revision_fetches_and_keeps_only_what_changed(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    fetch(tmp_path)
    changed = files["config.json"].replace(b"\n", b" ")
    hub.add("someone/model", files | {"config.json": changed})
    hub.requests.clear()
    check_whole(fetch(tmp_path).path, files | {"config.json": changed})
    assert hub.fetched() == {"config.json"}
    assert bytes_on_disk(tmp_path) == sum(map(len, files.values())) + len(changed)


def test_a_disk_without_any_links_is_left_to_the_client(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    check_whole(fetch(tmp_path).path, files)


@pytest.mark.parametrize("name", [SHARD, "config.json"])
@pytest.mark.parametrize("with_blob", [True, False])
@pytest.mark.parametrize("links_later", [True, False])
def test_a_copy_that_broke_off_is_not_taken_for_the_file(
    hub: Hub,
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    with_blob: bool,
    links_later: bool,
) -> None:
    """The client copies under the file's own name; a full disk leaves a part of it there."""
    path = fetch(tmp_path).path
    copy = path / name
    if not with_blob:
        for blob in path.parent.parent.glob("blobs/*"):
            if blob.samefile(copy):
                blob.unlink()
    copy.unlink()
    copy.write_bytes(files[name][:100])
    monkeypatch.setattr(file_download, "are_symlinks_supported", lambda *_: links_later)
    hub.requests.clear()
    check_whole(fetch(tmp_path).path, files)
    assert hub.fetched() == (set() if with_blob else {name})

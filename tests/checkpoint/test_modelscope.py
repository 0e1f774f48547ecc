"""Downloads from ModelScope by its real client, from a hub on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint, resolve
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.errors import DownloadError, ModelNotFoundError, WeightsError
from tests.checkpoint.hub_server import Fault, Hub, serve
from tests.checkpoint.test_download import EXTRA, files_of

pytest.importorskip("modelscope", reason="the modelscope extra is not installed")

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"]),
    # The client's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    """One hub for all of these tests: the client reads its address once."""
    with serve(Hub()) as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    server.repositories.clear()
    server.faults.clear()
    server.lies.clear()
    server.requests.clear()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.endpoint)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "default"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return server


def fetch(tmp_path: Path, **options: Any) -> ResolvedCheckpoint:
    given = {"cache_dir": tmp_path / "cache", "source": "modelscope", **options}
    return resolve("someone/model", **given)


def check_whole(path: Path, files: dict[str, bytes]) -> None:
    for name, body in files.items():
        assert hashlib.sha256((path / name).read_bytes()).digest() == hashlib.sha256(body).digest()
    assert not {file.name for file in path.iterdir()} & set(EXTRA)


def test_only_what_loading_needs_is_fetched_and_found_again_offline(
    hub: Hub, tmp_path: Path
) -> None:
    """H4, H1."""
    wanted = files_of(tmp_path)
    hub.add("someone/model", wanted | EXTRA | {"pytorch_model.bin": b"\x80"})
    calls: list[tuple[str, int, int | None]] = []
    found = fetch(tmp_path, progress=lambda *call: calls.append(call))
    check_whole(found.path, wanted)
    assert hub.fetched() == set(wanted)
    assert found.source == "modelscope"
    verify_weights(found.path, read_config(found.path), allow_pickle=False)
    total = sum(map(len, wanted.values()))
    assert calls[0] == ("downloading", 0, total)
    assert calls[-1] == ("downloading", total, total)
    hub.requests.clear()
    assert fetch(tmp_path, offline=True).path == found.path
    assert hub.requests == []
    with pytest.raises(ModelNotFoundError, match="off limits"):
        fetch(tmp_path, cache_dir=tmp_path / "other", offline=True)
    assert hub.requests == []


def test_pickled_shards_only_where_there_is_nothing_else(hub: Hub, tmp_path: Path) -> None:
    wanted = files_of(tmp_path, "bin-sharded")
    hub.add("someone/model", wanted | EXTRA)
    with pytest.raises(WeightsError, match="allow_pickle"):
        fetch(tmp_path, allow_pickle=False)
    assert hub.fetched() == set()
    check_whole(fetch(tmp_path).path, wanted)


def test_a_cut_connection_and_wrong_bytes_are_made_good(hub: Hub, tmp_path: Path) -> None:
    """H5."""
    wanted = files_of(tmp_path, hidden_size=64, intermediate_size=128)
    hub.add("someone/model", wanted)
    hub.faults[SHARD] = Fault(cut=50_000, times=1)
    hub.faults["model-00001-of-00003.safetensors"] = Fault(flip=77, times=1)
    check_whole(fetch(tmp_path).path, wanted)


def test_a_full_disk_is_said_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", files_of(tmp_path))
    hub.lies[SHARD] = 2**60
    with pytest.raises(DownloadError, match=r"\d{19} bytes"):
        fetch(tmp_path)
    assert hub.fetched() == set()


def test_an_unknown_repository_is_a_download_error(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="someone/model"):
        fetch(tmp_path)

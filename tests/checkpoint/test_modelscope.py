"""Downloads from ModelScope by its real client, from a hub on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.checkpoint import modelscope
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


def test_a_repository_that_is_not_there_is_told_from_a_hub_that_fails(
    hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError, match="someone/model") as caught:
        fetch(tmp_path)
    assert not caught.value.retryable
    hub.add("someone/model", files_of(tmp_path))
    hub.failing["tree"] = 403
    with pytest.raises(DownloadError, match="someone/model") as refused:
        fetch(tmp_path)
    assert refused.value.retryable
    hub.failing.clear()


def test_a_whole_copy_is_used_when_the_hub_is_down(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    hub.requests.clear()
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    assert fetch(tmp_path) == first
    assert "cached copy of someone/model" in caplog.text
    assert hub.requests == []


def test_only_a_whole_copy_is_used_and_only_when_the_hub_is_down(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelscope_hub.errors import FileDownloadError, NetworkError, ServerError

    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    raised: list[Exception] = []
    error: Exception

    def fail(*_: object) -> None:
        raise raised.pop()

    # The client itself tries each of these for many seconds.
    monkeypatch.setattr(modelscope._Snapshot, "listed", fail)
    down = FileDownloadError("", failed_files={"a": NetworkError(""), "b": NetworkError("")})
    for error in (NetworkError(""), ServerError("", status_code=503), down):
        raised.append(error)
        assert fetch(tmp_path) == first
    full = {"a": NetworkError(""), "b": OSError(errno.ENOSPC, "")}
    for error in (KeyError("a bug"), FileDownloadError("", failed_files=full)):
        raised.append(error)
        with pytest.raises(DownloadError):
            fetch(tmp_path)
    (first.path / SHARD).unlink()
    raised.append(NetworkError(""))
    with pytest.raises(DownloadError, match="did not deliver"):
        fetch(tmp_path)


class EndedByCaller(Exception):
    """What a caller's own progress function raises."""


def end_after(most: int) -> Callable[[str, int, int | None], None]:
    """A progress function that ends a download."""

    def progress(stage: str, done: int, total: int | None) -> None:
        if done >= most:
            raise EndedByCaller

    return progress


def test_what_progress_raises_ends_a_download_at_once(hub: Hub, tmp_path: Path) -> None:
    """The client would take it for a broken connection, and try again for a minute."""
    hub.add("someone/model", files_of(tmp_path, hidden_size=64, intermediate_size=128))
    hub.faults["*"] = Fault(delay=0.01, times=None)
    began = time.monotonic()
    with pytest.raises(EndedByCaller):
        fetch(tmp_path, progress=end_after(1))
    assert time.monotonic() - began < 10


def test_an_update_that_ended_halfway_is_not_taken_for_whole_offline(
    hub: Hub, tmp_path: Path
) -> None:
    """H5: what the rest needs is there, of one revision or the other."""
    old = files_of(tmp_path)
    hub.add("someone/model", old)
    fetch(tmp_path)
    new = {name: body.replace(b"\n", b" ") for name, body in old.items()}
    changed = new[SHARD][:-1] + bytes([new[SHARD][-1] ^ 1])
    hub.add("someone/model", new | {SHARD: changed})
    hub.faults["tokenizer_config.json"] = Fault(status=404, times=None)
    with pytest.raises(DownloadError):
        fetch(tmp_path)
    with pytest.raises(ModelNotFoundError, match="not whole"):
        fetch(tmp_path, offline=True)
    hub.faults.clear()
    check_whole(fetch(tmp_path).path, new | {SHARD: changed})
    check_whole(fetch(tmp_path, offline=True).path, new | {SHARD: changed})


@pytest.mark.parametrize("absent", ["tokenizer", "merges.txt"])
def test_a_copy_without_its_tokenizer_is_not_taken_for_whole_offline(
    hub: Hub, tmp_path: Path, absent: str
) -> None:
    """What the client alone had begun to fetch has no note."""
    hub.add("someone/model", files_of(tmp_path))
    path = fetch(tmp_path).path
    (path / "tokenizer.json").unlink(missing_ok=True)
    names = ["vocab.json", "merges.txt"] if absent == "tokenizer" else [absent]
    for name in names:
        (path / name).unlink()
    with pytest.raises(ModelNotFoundError, match="not whole"):
        fetch(tmp_path, offline=True)


def test_what_is_on_the_disk_already_needs_no_room(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(tmp_path)
    hub.add("someone/model", files)
    path = fetch(tmp_path).path
    whole = path / SHARD
    whole.with_name(SHARD + ".incomplete").write_bytes(whole.read_bytes()[:-10])
    whole.unlink()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    check_whole(fetch(tmp_path).path, files)
    whole.unlink()
    with pytest.raises(DownloadError, match="bytes") as caught:
        fetch(tmp_path)
    assert caught.value.parameter == "cache_dir"


class Downloads:
    """Downloads in processes of their own, of which any may be killed.

    Args:
        hub: Where from.
        log: A file for what the client says.
        parallel: Whether large files come in parts, several at a time.
    """

    def __init__(self, hub: Hub, log: Path, *, parallel: bool = False) -> None:
        parts = {"PARALLEL_THRESHOLD_MB": "1", "PARALLEL_WORKERS": "3", "PART_SIZE_MB": "1"}
        chosen = parts if parallel else {}
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.checkpoint.forked_downloads"],
                env=os.environ | {f"MODELSCOPE_DOWNLOAD_{key}": chosen[key] for key in chosen},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def start(self, cache: Path) -> int:
        """Begin one; returns its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{cache}\n")
        self._process.stdin.flush()
        return int(self._line())

    def end(self) -> tuple[int, Path]:
        """Wait for the one that was begun; returns how its process ended, and the directory."""
        status, _, path = self._line().partition(" ")
        return int(status), Path(path.strip())

    def close(self) -> None:
        self._process.communicate(timeout=10)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return line


@pytest.fixture
def downloads(hub: Hub, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Downloads]:
    parallel = getattr(request, "param", False)
    started = Downloads(hub, tmp_path / "client.log", parallel=parallel)
    yield started
    started.close()


@pytest.fixture
def large(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """A repository of some 6 MB, so that much of it is on disk whenever a process dies."""
    made = files_of(tmp_path, hidden_size=256, intermediate_size=768, vocab_size=1024)
    hub.add("someone/model", made)
    return made


def kill_one(hub: Hub, downloads: Downloads, cache: Path, chance: random.Random, most: int) -> None:
    """Start a download and kill it after a random number of bytes."""
    hub.stall(chance.randrange(most))
    process = downloads.start(cache)
    assert hub.stalled.wait(30)
    time.sleep(chance.choice([0, 0, 0.01, 0.1]))
    os.kill(process, signal.SIGKILL)
    assert downloads.end()[0] == -signal.SIGKILL


def run_killed(
    hub: Hub, downloads: Downloads, files: dict[str, bytes], cache: Path, seed: int
) -> None:
    """Kill a download at a random byte, then let another one finish it."""
    chance = random.Random(seed)
    kill_one(hub, downloads, cache, chance, sum(map(len, files.values())))
    with pytest.raises(ModelNotFoundError):
        fetch(cache, cache_dir=cache, offline=True)
    there = {name: on_disk(cache, name) for name in files}
    before = dict(hub.sent)
    hub.stall(None)
    downloads.start(cache)
    status, path = downloads.end()
    assert status == 0
    check_whole(path, files)
    assert {file.name for file in path.iterdir()} == set(files)
    verify_weights(path, read_config(path))
    assert fetch(cache, cache_dir=cache, offline=True).path == path
    for name, body in files.items():
        again = hub.sent.get(name, 0) - before.get(name, 0)
        # The server counts what it had begun to send to the process that died.
        assert again <= len(body) - there[name] + (64 << 10), name


def on_disk(cache: Path, name: str) -> int:
    """How much of a file there is, whole or in parts."""
    kinds = re.compile(re.escape(name) + r"(\.incomplete|_\d+_\d+)?")
    there = [file for file in cache.rglob(f"{name}*") if kinds.fullmatch(file.name)]
    return sum(file.stat().st_size for file in there)


def test_a_killed_download_resumes_to_the_same_files(
    hub: Hub, downloads: Downloads, large: dict[str, bytes], tmp_path: Path
) -> None:
    """H5: killed at a random byte; what is not whole is never taken for whole."""
    for seed in range(3):
        run_killed(hub, downloads, large, tmp_path / f"cache{seed}", seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("downloads", [False, True], indirect=True, ids=["whole", "parts"])
def test_a_download_killed_at_thirty_random_bytes_always_resumes(
    hub: Hub, downloads: Downloads, large: dict[str, bytes], tmp_path: Path
) -> None:
    for seed in range(100, 130):
        run_killed(hub, downloads, large, tmp_path / f"cache{seed}", seed)


def test_without_weights_the_small_files_alone_are_fetched(hub: Hub, tmp_path: Path) -> None:
    files = files_of(tmp_path)
    hub.add("someone/model", files)
    small = {name for name in files if not name.endswith(".safetensors")}
    found = fetch(tmp_path, weights=False)
    assert hub.fetched() == small
    assert fetch(tmp_path, weights=False, offline=True) == found
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    check_whole(fetch(tmp_path).path, files)
    assert fetch(tmp_path, offline=True) == found


def test_small_files_that_changed_beside_weights_are_no_whole_copy(
    hub: Hub, tmp_path: Path
) -> None:
    """There is one folder for every commit."""
    hub.add("someone/model", files_of(tmp_path))
    fetch(tmp_path)
    newer = files_of(tmp_path, max_position_embeddings=256)
    hub.add("someone/model", newer)
    assert read_config(fetch(tmp_path, weights=False).path).max_position == 256
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    check_whole(fetch(tmp_path).path, newer)
    fetch(tmp_path, offline=True)

"""Downloads over a network that fails: continued, checked, and never taken for whole when not."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, RuntimeLease
from aquila2_runtime.checkpoint import transfer
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.resolve import resolve
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.errors import DownloadError, ModelNotFoundError
from tests.checkpoint.hub_server import Fault, Hub
from tests.checkpoint.test_download import SECRET, fetch, files_of

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"]),
]

SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture
def files(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """A repository of some 400 KB in three shards."""
    made = files_of(tmp_path, hidden_size=64, intermediate_size=128)
    hub.add("someone/model", made)
    return made


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between tries as short as tests need."""
    monkeypatch.setattr(transfer, "_WAITS", (0.01, 0.01))


def check_whole(path: Path, files: dict[str, bytes]) -> None:
    assert {file.name for file in path.iterdir()} == set(files)
    for name, body in files.items():
        assert hashlib.sha256((path / name).read_bytes()).digest() == hashlib.sha256(body).digest()
    assert not list(path.parent.parent.glob("blobs/*.incomplete"))


def partial(tmp_path: Path, body: bytes) -> Path:
    """Where a file that is not whole lies in the cache."""
    folder = tmp_path / "cache" / "models--someone--model" / "blobs"
    return folder / f"{hashlib.sha256(body).hexdigest()}.incomplete"


@pytest.mark.parametrize("at", [0, 1, 5_000, 90_000])
def test_a_cut_connection_is_continued_where_it_broke(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, at: int
) -> None:
    hub.faults[SHARD] = Fault(cut=at, times=1)
    check_whole(fetch(tmp_path).path, files)
    # What had arrived was not sent again.
    assert hub.sent[SHARD] == len(files[SHARD])


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_fails_for_a_while_is_asked_again(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, status: int, impatient: None
) -> None:
    hub.faults[SHARD] = Fault(status=status, times=2)
    check_whole(fetch(tmp_path).path, files)


def test_a_server_that_fails_for_good_is_an_error_that_says_what_is_kept(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, impatient: None
) -> None:
    hub.faults[SHARD] = Fault(status=503, times=None)
    with pytest.raises(DownloadError, match="503") as caught:
        fetch(tmp_path)
    assert caught.value.retryable
    hub.faults.clear()
    before = dict(hub.sent)
    check_whole(fetch(tmp_path).path, files)
    # The shards that were whole were not sent again.
    assert all(hub.sent[name] == count for name, count in before.items() if name in files)


def test_a_server_that_knows_no_ranges_sends_the_file_anew(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    body = files[SHARD]
    place = partial(tmp_path, body)
    place.parent.mkdir(parents=True)
    place.write_bytes(body[:30_000])
    hub.faults["*"] = Fault(whole=True, times=None)
    check_whole(fetch(tmp_path).path, files)
    assert hub.sent[SHARD] == len(body)


def test_a_partial_file_is_continued_by_another_process(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    body = files[SHARD]
    place = partial(tmp_path, body)
    place.parent.mkdir(parents=True)
    place.write_bytes(body[:30_000])
    check_whole(fetch(tmp_path).path, files)
    assert hub.sent[SHARD] == len(body) - 30_000


@pytest.mark.parametrize("length", [30_000, "whole", "longer"])
def test_a_damaged_partial_file_is_found_by_its_hash_and_fetched_anew(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, length: int | str
) -> None:
    """H5: a corrupted partial is detected, whatever its length."""
    body = bytearray(files[SHARD])
    body[12_345] ^= 1
    if length == "longer":
        body += b"more"
    place = partial(tmp_path, files[SHARD])
    place.parent.mkdir(parents=True)
    place.write_bytes(body if isinstance(length, str) else body[:length])
    check_whole(fetch(tmp_path).path, files)


@pytest.mark.parametrize("name", [SHARD, "vocab.json"])
def test_wrong_bytes_on_the_way_are_fetched_again_and_refused_in_the_end(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    """H5: the size alone would not tell."""
    hub.faults[name] = Fault(flip=100, times=1)
    check_whole(fetch(tmp_path).path, files)
    other = tmp_path / "other"
    hub.faults[name] = Fault(flip=100, times=None)
    with pytest.raises(DownloadError, match="damaged") as caught:
        fetch(other)
    assert caught.value.parameter == name
    blobs = other / "cache" / "models--someone--model" / "blobs"
    states = {hashlib.sha256(files[name]).hexdigest(), caught.value.value}
    assert not any((blobs / str(state)).exists() for state in states)
    with pytest.raises(ModelNotFoundError):
        fetch(other, offline=True)
    hub.faults.clear()
    check_whole(fetch(other).path, files)


def test_more_bytes_than_are_listed_are_refused(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults[SHARD] = Fault(grow=3, times=None)
    with pytest.raises(DownloadError, match="damaged") as caught:
        fetch(tmp_path)
    assert caught.value.parameter == SHARD


def test_room_that_a_partial_file_takes_already_is_not_asked_for_again(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    large = 2**60
    hub.lies[SHARD] = large
    place = partial(tmp_path, files[SHARD])
    place.parent.mkdir(parents=True)
    with place.open("wb") as file:
        file.truncate(1_000_000)
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path)
    needed = re.search(r"(\d+) bytes", str(caught.value))
    assert needed is not None
    others = sum(len(body) for name, body in files.items() if name != SHARD)
    assert int(needed[1]) == large - 1_000_000 + others
    assert hub.fetched() == set()


def test_a_token_is_not_sent_on_to_another_host(
    hub: Hub, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H7: weights come from another address than the hub's."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    fetch(tmp_path)
    paths = [path for path, _ in hub.authorizations]
    assert any("/resolve/" in path for path in paths)
    assert not any(path.startswith("/cdn/") for path in paths)


def test_progress_counts_what_is_there_and_never_passes_the_total(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    place = partial(tmp_path, files[SHARD])
    place.parent.mkdir(parents=True)
    place.write_bytes(files[SHARD][:30_000])
    hub.faults["model-00001-of-00003.safetensors"] = Fault(cut=40_000, times=1)
    hub.faults["model-00003-of-00003.safetensors"] = Fault(flip=9, times=1)
    calls: list[int] = []
    fetch(tmp_path, progress=lambda stage, done, total: calls.append(done))
    total = sum(map(len, files.values()))
    assert calls[-1] == total
    assert max(calls) <= total
    assert len(calls) > 20


def test_hubs_that_state_no_hashes_are_still_fetched_from(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.hashes = False
    check_whole(fetch(tmp_path).path, files)


def test_two_downloads_at_once_send_each_shard_once(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.faults["*"] = Fault(delay=0.002, times=None)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(tmp_path).path)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    check_whole(found[0], files)
    assert all(hub.sent[name] == len(body) for name, body in files.items())


def test_offline_never_asks_and_is_an_option_too(
    hub: Hub, files: dict[str, bytes], tmp_path: Path
) -> None:
    """H1."""
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    found = fetch(tmp_path)
    hub.requests.clear()
    assert fetch(tmp_path, offline=True) == found
    cache = str(tmp_path / "cache")
    with pytest.raises(ModelNotFoundError, match="off limits"):
        Aquila2Runtime.load("someone/else", cache_dir=cache, offline=True)
    told = RuntimeLease(model="someone/model", cache_dir=cache, offline=True).facts()
    assert told.model == "someone/model"
    assert hub.requests == []


COMMAND = [sys.executable, "-m", "aquila2_runtime.cli", "download", "someone/model", "--quiet"]
# The same without importing what the command line needs besides.
RESOLVE = """
import sys
from aquila2_runtime.checkpoint.resolve import resolve
print(resolve("someone/model", cache_dir=sys.argv[2]).path)
"""


def start_download(
    hub: Hub, cache: Path, command: Sequence[str] = (sys.executable, "-c", RESOLVE)
) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return subprocess.Popen(
        [*command, "--cache-dir", str(cache)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_killed(hub: Hub, files: dict[str, bytes], cache: Path, seed: int) -> None:
    """Kill a download at a random byte, then let another one finish it."""
    chance = random.Random(seed)
    total = sum(map(len, files.values()))
    hub.sent.clear()
    hub.stall(chance.randrange(total))
    process = start_download(hub, cache)
    assert hub.stalled.wait(30), process.communicate(timeout=5)
    time.sleep(chance.choice([0, 0, 0.01, 0.1]))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    hub.stall(None)
    sent_before = sum(hub.sent.values())
    with pytest.raises(ModelNotFoundError):
        resolve("someone/model", cache_dir=cache, offline=True)
    process = start_download(hub, cache)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    check_whole(Path(out.strip()), files)
    verify_weights(Path(out.strip()), read_config(Path(out.strip())))
    # At most what was on the way or in buffers when the process died is sent twice, per file.
    again = sum(hub.sent.values()) - total
    assert again <= min(sent_before, 4 * 256 * 1024)
    assert resolve("someone/model", cache_dir=cache, offline=True).path == Path(out.strip())


@pytest.fixture
def large(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """A repository of some 6 MB, so that much of it is on disk whenever a process dies."""
    made = files_of(tmp_path, hidden_size=256, intermediate_size=768, vocab_size=1024)
    hub.add("someone/model", made)
    return made


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_download_resumes_to_the_same_files(
    hub: Hub, large: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    """H5: killed at a random byte; what is not whole is never taken for whole."""
    run_killed(hub, large, tmp_path / "cache", seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_download_killed_at_thirty_random_bytes_always_resumes(
    hub: Hub, large: dict[str, bytes], tmp_path: Path
) -> None:
    for seed in range(100, 130):
        run_killed(hub, large, tmp_path / f"cache{seed}", seed)


def test_one_download_killed_again_and_again_gets_there(
    hub: Hub, large: dict[str, bytes], tmp_path: Path
) -> None:
    total = sum(map(len, large.values()))
    for _ in range(2):
        hub.stall(total // 3)
        process = start_download(hub, tmp_path / "cache", COMMAND)
        assert hub.stalled.wait(30), process.communicate(timeout=5)
        process.kill()
        process.communicate(timeout=10)
    hub.stall(None)
    process = start_download(hub, tmp_path / "cache", COMMAND)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    check_whole(Path(out.strip()), large)

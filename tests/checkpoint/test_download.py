"""Downloads by the real hub client, from a hub on this machine."""

from __future__ import annotations

import importlib.util
import stat
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.hub_cache import cache_folder, unfinished
from aquila2_runtime.checkpoint.hub_files import choose_files
from aquila2_runtime.checkpoint.resolve import ResolvedCheckpoint, resolve
from aquila2_runtime.checkpoint.verify import verify_weights
from aquila2_runtime.errors import (
    DownloadError,
    MissingDependencyError,
    ModelNotFoundError,
    WeightsError,
)
from tests.checkpoint.hub_server import Fault, Hub
from tests.fixtures_checkpoint import make_checkpoint

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"])]

SECRET = "hf_thisIsASecretTokenOfMine"
EXTRA = {
    "modeling_aquila.py": b"raise SystemExit",
    "configuration_aquila.py": b"raise SystemExit",
    "predict.py": b"raise SystemExit",
    "training_args.pkl": b"\x80",
    "optimizer.pt": b"\x80",
    "tf_model.h5": b"",
    "README.md": b"# Model",
    "LICENSE.pdf": b"",
    "runs/events.json": b"{}",
    "onnx/model.safetensors": b"",
    "adapter_model.safetensors": b"",
}


def files_of(
    tmp_path: Path, layout: str = "safetensors-sharded", **config: Any
) -> dict[str, bytes]:
    path = make_checkpoint(tmp_path / f"source-{layout}-{len(config)}", layout=layout, **config)
    return {file.name: file.read_bytes() for file in path.iterdir()}


def fetch(tmp_path: Path, model: str = "someone/model", **options: Any) -> ResolvedCheckpoint:
    return resolve(model, cache_dir=tmp_path / "cache", **options)


def test_only_what_loading_needs_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """H4: JSON, tokenizer files and safetensors; never code or other pickles."""
    wanted = files_of(tmp_path)
    pickles = {"pytorch_model.bin": b"\x80", "pytorch_model.bin.index.json": b"{}"}
    commit = hub.add("someone/model", wanted | EXTRA | pickles)
    found = fetch(tmp_path)
    assert hub.fetched() == set(wanted)
    assert {file.name for file in found.path.iterdir()} == set(wanted)
    assert (found.name, found.revision, found.source) == ("someone/model", commit, "huggingface")
    assert found.template is None
    verify_weights(found.path, read_config(found.path), allow_pickle=False)


def test_pickled_shards_are_fetched_only_where_there_is_no_safetensors(
    hub: Hub, tmp_path: Path
) -> None:
    """H4: .bin shards as the last resort, and only if they may be read."""
    wanted = files_of(tmp_path, "bin-sharded")
    hub.add("someone/model", wanted | EXTRA)
    with pytest.raises(WeightsError, match="allow_pickle"):
        fetch(tmp_path, allow_pickle=False)
    assert hub.fetched() == set()
    found = fetch(tmp_path)
    assert hub.fetched() == set(wanted)
    verify_weights(found.path, read_config(found.path))


def test_one_commit_serves_every_file(hub: Hub, tmp_path: Path) -> None:
    """H3: one resolved commit for config, tokenizer and weights."""
    first = hub.add("someone/model", files_of(tmp_path))
    second = hub.add("someone/model", files_of(tmp_path, max_position_embeddings=256))
    assert fetch(tmp_path).revision == second
    assert hub.revisions() == {second}
    hub.requests.clear()
    found = fetch(tmp_path, revision=first)
    assert hub.revisions() == {first}
    assert read_config(found.path).max_position == 128


def test_a_released_name_is_fetched_under_its_hub_id_with_its_template(
    hub: Hub, tmp_path: Path
) -> None:
    commit = hub.add("BAAI/AquilaChat2-7B", files_of(tmp_path))
    for spelling in ("AquilaChat2-7B", "baai/aquilachat2-7b"):
        found = fetch(tmp_path, spelling)
        assert (found.name, found.revision) == ("AquilaChat2-7B", commit)
        assert found.template == "aquila-v1"


def test_a_second_fetch_sends_no_file_again_and_works_offline(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    hub.requests.clear()
    assert fetch(tmp_path) == first
    assert hub.fetched() == set()
    hub.requests.clear()
    assert fetch(tmp_path, offline=True) == first
    assert fetch(tmp_path, revision=commit) == first
    assert hub.requests == []


def test_offline_and_not_in_the_cache_is_said_with_the_way_out(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: offline mode never touches the network."""
    hub.add("someone/model", files_of(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="download") as caught:
        fetch(tmp_path)
    assert caught.value.parameter == "model"
    assert hub.requests == []


def test_a_copy_that_is_not_whole_does_not_count_as_cached(hub: Hub, tmp_path: Path) -> None:
    """H5: an interrupted download is detected."""
    hub.add("someone/model", files_of(tmp_path))
    found = fetch(tmp_path)
    (found.path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    hub.requests.clear()
    assert fetch(tmp_path).path == found.path
    assert hub.fetched() <= {"model-00002-of-00003.safetensors"}
    verify_weights(found.path, read_config(found.path))


def test_a_complete_copy_is_used_when_the_hub_is_down(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    hub.failing["info"] = 503
    assert fetch(tmp_path) == first
    assert "cached copy" in caplog.text


def test_an_unknown_repository_is_not_found_and_a_near_name_suggested(
    hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        fetch(tmp_path, "BAAI/AquilaChat-7B")
    assert "AquilaChat2-7B" in str(caught.value)
    with pytest.raises(ModelNotFoundError) as caught:
        fetch(tmp_path, "someone/else")
    assert caught.value.value == "someone/else"


def test_an_unknown_revision_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", files_of(tmp_path))
    with pytest.raises(ModelNotFoundError, match="no-such-branch") as caught:
        fetch(tmp_path, revision="no-such-branch")
    assert caught.value.parameter == "revision"


@pytest.mark.parametrize("kind", ["info", "tree", "head"])
def test_a_failing_hub_is_a_retryable_download_error(hub: Hub, tmp_path: Path, kind: str) -> None:
    hub.add("someone/model", files_of(tmp_path))
    # The client waits long and asks again at a 500 for a file; a 501 it takes for an answer.
    hub.failing[kind] = 500 if kind == "info" else 501
    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path)
    assert caught.value.retryable
    assert caught.value.hint
    hub.failing.clear()
    assert fetch(tmp_path).path.is_dir()


def test_a_gated_repository_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", files_of(tmp_path))
    hub.gated.add("someone/model")
    with pytest.raises(DownloadError, match="conditions"):
        fetch(tmp_path)


def test_an_unreachable_hub_is_a_download_error(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="connection"):
        fetch(tmp_path)


def test_a_file_that_arrives_with_another_size_is_refused(hub: Hub, tmp_path: Path) -> None:
    """H5: a damaged file is detected before anything is read from it."""
    hub.add("someone/model", files_of(tmp_path))
    hub.lies["config.json"] = 7
    with pytest.raises(DownloadError, match=r"config\.json"):
        fetch(tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    """H5: disk-full gives a clear error first."""
    hub.add("someone/model", files_of(tmp_path))
    hub.lies["model-00001-of-00003.safetensors"] = 2**60
    with pytest.raises(DownloadError, match="GiB") as caught:
        fetch(tmp_path)
    assert caught.value.parameter == "cache_dir"
    assert hub.fetched() == set()


def test_a_new_cache_directory_is_private(hub: Hub, tmp_path: Path) -> None:
    """H6: mode 0700."""
    hub.add("someone/model", files_of(tmp_path))
    fetch(tmp_path)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no such rights")
def test_whoever_may_read_the_files_may_read_which_commit_they_are_of(
    hub: Hub, tmp_path: Path
) -> None:
    """A cache on a disk that several people share: offline, the branch's name is all they have."""
    hub.add("someone/model", files_of(tmp_path))
    found = fetch(tmp_path)
    config = (found.path / "config.json").resolve()
    (branch,) = (config.parent.parent / "refs").iterdir()
    assert branch.read_text() == found.revision
    assert stat.S_IMODE(branch.stat().st_mode) == stat.S_IMODE(config.stat().st_mode)


def test_progress_counts_bytes_up_to_all_of_them(
    hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = files_of(tmp_path)
    hub.add("someone/model", wanted)
    calls: list[tuple[str, int, int | None]] = []
    fetch(tmp_path, progress=lambda *call: calls.append(call))
    total = sum(map(len, wanted.values()))
    assert calls[0] == ("downloading", 0, total)
    assert calls[-1] == ("downloading", total, total)
    assert len(calls) > 2
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_an_error_of_the_progress_callback_ends_the_download_as_itself(
    hub: Hub, tmp_path: Path
) -> None:
    class Enough(Exception):
        pass

    def stop(stage: str, done: int, total: int | None) -> None:
        if done:
            raise Enough

    hub.add("someone/model", files_of(tmp_path))
    with pytest.raises(Enough):
        fetch(tmp_path, progress=stop)


@pytest.mark.parametrize("kind", ["info", "head", "gated", "absent"])
def test_a_token_is_sent_to_the_hub_and_appears_in_no_error(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """H7: tokens never appear in errors or their traces."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    endpoint = hub.endpoint.replace("http://", f"http://user:{SECRET}@")
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    if kind != "absent":
        hub.add("someone/model", files_of(tmp_path))
    if kind == "gated":
        hub.gated.add("someone/model")
    hub.failing = {kind: 501} if kind in ("info", "head") else {}
    with pytest.raises((DownloadError, ModelNotFoundError)) as caught:
        fetch(tmp_path)
    assert hub.authorizations
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert SECRET not in shown


def test_files_in_folders_and_of_other_kinds_are_never_chosen() -> None:
    """H4: names are matched whole, so no path can come through."""
    names = [
        "config.json",
        "model.safetensors",
        "../config.json",
        "a/model.safetensors",
        "x.py",
        "y.pkl",
    ]
    chosen = choose_files(names, allow_pickle=True, repository="a/b")
    assert chosen == ["config.json", "model.safetensors"]
    with pytest.raises(WeightsError):
        choose_files(["config.json", "x.gguf"], allow_pickle=True, repository="a/b")


def test_modelscope_without_its_client_names_the_extra(tmp_path: Path) -> None:
    if importlib.util.find_spec("modelscope") is not None:
        pytest.skip("modelscope is installed")
    with pytest.raises(MissingDependencyError, match=r"aquila2\[modelscope\]"):
        fetch(tmp_path, "AquilaChat2-34B", source="modelscope")
    assert "modelscope" not in sys.modules


def test_a_snapshot_that_was_being_laid_out_is_not_taken_for_whole(
    hub: Hub, tmp_path: Path
) -> None:
    """H5: by its commit no hub is asked, so what a killed process left must be known for it."""
    files = files_of(tmp_path)
    commit = hub.add("someone/model", files)
    hub.hashes = False  # as some mirrors: the client then fetches into the snapshot itself
    hub.faults["tokenizer_config.json"] = Fault(status=404, delay=0.3, times=None)
    with pytest.raises(DownloadError):
        fetch(tmp_path, revision=commit)
    snapshot = tmp_path / "cache" / "models--someone--model" / "snapshots" / commit
    assert {file.name for file in snapshot.iterdir()} == set(files) - {"tokenizer_config.json"}
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, revision=commit, offline=True)
    hub.faults.clear()
    path = fetch(tmp_path, revision=commit).path
    assert {file.name for file in path.iterdir()} == set(files)
    assert fetch(tmp_path, revision=commit, offline=True).path == path


def test_without_weights_the_small_files_alone_are_fetched(hub: Hub, tmp_path: Path) -> None:
    files = files_of(tmp_path)
    hub.add("someone/model", files)
    small = {name for name in files if not name.endswith(".safetensors")}
    found = fetch(tmp_path, weights=False)
    assert hub.fetched() == small
    assert read_config(found.path).max_position == 128
    assert fetch(tmp_path, weights=False, offline=True) == found
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    hub.requests.clear()
    assert fetch(tmp_path) == found
    assert hub.fetched() == set(files) - small
    assert fetch(tmp_path, offline=True) == found


def test_a_repository_without_weights_is_described_all_the_same(hub: Hub, tmp_path: Path) -> None:
    files = {k: v for k, v in files_of(tmp_path).items() if not k.endswith(".safetensors")}
    hub.add("someone/model", files)
    assert read_config(fetch(tmp_path, weights=False).path).max_position == 128
    with pytest.raises(WeightsError):
        fetch(tmp_path)


def test_small_files_of_a_newer_commit_leave_the_whole_copy_to_be_found_offline(
    hub: Hub, tmp_path: Path
) -> None:
    hub.add("someone/model", files_of(tmp_path))
    whole = fetch(tmp_path)
    newer = hub.add("someone/model", files_of(tmp_path, max_position_embeddings=256))
    described = fetch(tmp_path, weights=False)
    assert described.revision == newer
    assert read_config(described.path).max_position == 256
    assert fetch(tmp_path, offline=True) == whole


def test_the_note_of_weights_that_are_on_their_way_stays(hub: Hub, tmp_path: Path) -> None:
    commit = hub.add("someone/model", files_of(tmp_path))
    folder = cache_folder("someone/model", str(tmp_path / "cache"))
    fetch(tmp_path)
    unfinished(folder, commit).begin()
    fetch(tmp_path, weights=False)
    with pytest.raises(ModelNotFoundError):
        fetch(tmp_path, offline=True)
    fetch(tmp_path)
    assert fetch(tmp_path, offline=True).revision == commit

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aquila2_runtime.catalog import find_released
from aquila2_runtime.checkpoint.resolve import _repository, resolve
from aquila2_runtime.errors import InvalidLoadOptionError, ModelNotFoundError
from tests.fixtures_checkpoint import make_checkpoint


def test_a_directory_is_used_as_it_is_and_no_hub_is_asked(tmp_path: Path) -> None:
    """H1: a model that exists locally never touches the network (sockets are off in this test)."""
    path = make_checkpoint(tmp_path / "my-model")
    for model in (path, str(path), os.path.relpath(path)):
        found = resolve(model, offline=False)
        assert found.path == path
        assert (found.name, found.source, found.revision) == ("my-model", "local", None)
        assert found.template is None


def test_a_directory_wins_over_a_hub_id_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: what exists locally is local."""
    monkeypatch.chdir(tmp_path)
    for name in ("BAAI/AquilaChat2-7B", "AquilaChat2-34B", "aquila2-demo"):
        make_checkpoint(tmp_path / name)
        found = resolve(name, offline=False)
        assert (found.source, found.path) == ("local", tmp_path / name)
    assert resolve("AquilaChat2-34B").template == "aquila-legacy"


def test_a_hub_caches_directory_keeps_its_models_name_and_template(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "models--BAAI--AquilaChat2-7B" / "snapshots" / ("0" * 40))
    found = resolve(path)
    assert (found.name, found.template) == ("BAAI/AquilaChat2-7B", "aquila-v1")


def test_a_modelscope_caches_directory_keeps_its_models_name_and_template(tmp_path: Path) -> None:
    """The path that its client's own snapshot_download returns, as of 1.38."""
    folder = tmp_path / "models" / "BAAI--AquilaChat2-34B" / "snapshots" / "master"
    found = resolve(make_checkpoint(folder))
    assert (found.name, found.template) == ("BAAI/AquilaChat2-34B", "aquila-legacy")
    # Folders of that name elsewhere are no cache.
    elsewhere = make_checkpoint(tmp_path / "BAAI--AquilaChat2-34B" / "snapshots" / "master")
    assert (resolve(elsewhere).name, resolve(elsewhere).template) == ("master", None)


def test_a_link_named_after_a_released_model_is_that_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(tmp_path / "x123")
    link = tmp_path / "AquilaChat2-7B"
    link.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for model in (link, str(link), "AquilaChat2-7B", "./AquilaChat2-7B/"):
        found = resolve(model, offline=False)
        assert (found.name, found.template) == ("AquilaChat2-7B", "aquila-v1")
        # What is read, and shared with whoever else loads it, has one path.
        assert found.path == path
    # A base model has a name, and no template.
    link.rename(tmp_path / "Aquila2-7B")
    found = resolve("Aquila2-7B", offline=False)
    assert (found.name, found.template) == ("Aquila2-7B", None)


def test_a_links_target_names_the_model_where_the_link_does_not(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path / "AquilaChat2-7B")
    link = tmp_path / "production"
    link.symlink_to(path)
    found = resolve(link)
    assert (found.name, found.template) == ("AquilaChat2-7B", "aquila-v1")
    # By its text alone this would be the directory that the link lies in.
    away = tmp_path / "AquilaChat2-34B" / "away"
    away.parent.mkdir()
    away.symlink_to(make_checkpoint(tmp_path / "other" / "x123"))
    make_checkpoint(tmp_path / "other")
    above = resolve(away / "..")
    assert (above.path, above.name, above.template) == (tmp_path / "other", "other", None)


def test_the_home_directory_may_be_written_as_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_checkpoint(tmp_path / "model")
    assert resolve("~/model").path == tmp_path / "model"


def test_the_embedded_demo_is_found_without_any_network(root: Path) -> None:
    demo = root / "aquila2_runtime" / "demo"
    if not (demo / "config.json").is_file():
        with pytest.raises(ModelNotFoundError, match="installation"):
            resolve("aquila2-demo")
        return
    found = resolve("Aquila2-Demo", offline=False)
    assert (found.path, found.source, found.template) == (demo, "embedded", "aquila-v1")


@pytest.mark.parametrize(
    "model",
    [
        "",
        "   ",
        "..",
        "no-such-model",
        "a/b/c",
        "../../etc",
        "owner/..",
        "owner/.",
        "-owner/name",
        "../name",
        "owner/na..me",
        "owner/",
        "/name",
        "owner/name?x=1",
        "owner/name#main",
        "owner/na me",
        "https://huggingface.co/owner/name",
        "file:///etc/passwd",
        "owner\\name",
        "C:\\models\\x",
        "ｏwner/name",
        "owner/name\n",
        "x\0y",
        "owner/" + "n" * 500,
        "./missing",
        "~/missing-directory",
        "/no/such/directory",
    ],
)
def test_what_is_neither_a_directory_nor_a_name_is_refused_without_asking_anyone(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H2: repository ids match owner/name, no dots that climb, no scheme."""
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    if model in ("..", "../name"):
        monkeypatch.chdir("/")
        if model == "..":
            return
    with pytest.raises(ModelNotFoundError) as caught:
        resolve(model, offline=False)
    assert caught.value.parameter == "model"
    assert caught.value.hint


def test_a_near_miss_suggests_the_released_name() -> None:
    with pytest.raises(ModelNotFoundError, match="AquilaChat2-7B"):
        resolve("AquilaChat-7B", offline=False)
    with pytest.raises(ModelNotFoundError, match="Released"):
        resolve("mistral", offline=False)


def test_a_file_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match="directory"):
        resolve(file)


@pytest.mark.parametrize("revision", ["../x", "a b", "", "/main", "main/", "x\n", "a..b"])
def test_a_malformed_revision_is_refused(revision: str) -> None:
    """H2: a revision becomes part of a path, so it is checked like one."""
    with pytest.raises(InvalidLoadOptionError) as caught:
        resolve("owner/name", revision=revision, offline=False)
    assert caught.value.parameter == "revision"


def test_a_revision_of_a_directory_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(InvalidLoadOptionError, match="revision"):
        resolve(make_checkpoint(tmp_path), revision="main")
    with pytest.raises(InvalidLoadOptionError, match="revision"):
        resolve("aquila2-demo", revision="main")


def test_an_unknown_source_is_refused_and_one_without_the_model_says_so() -> None:
    with pytest.raises(InvalidLoadOptionError, match="modelscope"):
        resolve("AquilaChat2-7B", source="elsewhere")
    with pytest.raises(ModelNotFoundError, match='try "BAAI/AquilaChat2-7B" in full'):
        resolve("AquilaChat2-7B", source="modelscope")


@pytest.mark.parametrize("name", ["BAAI/AquilaChat2-7B", "BAAI/AquilaChat2-34B", "AquilaChat2-34B"])
def test_a_repository_named_in_full_is_looked_for_where_it_is_not_known_to_be(name: str) -> None:
    found = _repository(name, find_released(name), "modelscope")
    assert found == f"BAAI/{name.removeprefix('BAAI/')}"

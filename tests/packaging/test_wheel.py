"""What the built wheel holds, and that it works where the checkout is not."""

from __future__ import annotations

import email
import importlib.util
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {"aquila2_runtime", "langchain_aquila2", "llamaindex_aquila2"}
EXTRAS = {
    "all", "cli", "dev", "flash-attn", "grammar", "langchain", "llamaindex", "lora", "modelscope",
    "nf4", "rag", "sentencepiece", "serve", "vllm",
}  # fmt: skip
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".npz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline by the build backend itself."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    target = tmp_path_factory.mktemp("wheel")
    # In its own process: the builder reads the checkout from the working directory.
    script = (
        "import sys; from hatchling.builders.wheel import WheelBuilder;"
        "print(*WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=['standard']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(ROOT), str(target)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_three_packages_and_nothing_else(names: list[str]) -> None:
    """B3: no tests, no examples, no .pth file that runs at every start of Python."""
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert not [name for name in names if name.endswith(".pth") or "test" in name.lower()]
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_holds_no_weights_but_the_embedded_checkpoint(names: list[str]) -> None:
    """B3: the demo model is the only one."""
    weights = [name for name in names if name.endswith(WEIGHTS)]
    embedded = (ROOT / "aquila2_runtime" / "demo" / "model.safetensors").is_file()
    assert weights == (["aquila2_runtime/demo/model.safetensors"] if embedded else [])


def test_the_wheel_is_typed_and_licensed(names: list[str]) -> None:
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_metadata_says_what_pyproject_says(wheel: Path) -> None:
    """B1: name, version, Python and extras as promised, and no package that was refused."""
    from aquila2_runtime import __version__

    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = email.message_from_bytes(archive.read(path))
    assert metadata["Name"] == "aquila2"
    assert metadata["Version"] == __version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or []) == EXTRAS
    required = " ".join(metadata.get_all("Requires-Dist") or []).lower()
    for refused in ("diskcache", "litellm", "outlines", "dill", "jinja2", "langchain-community"):
        assert refused not in required


def test_all_leaves_out_what_cannot_be_installed_beside_the_rest() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = extras["optional-dependencies"]["all"][0]
    inside = set(listed.removeprefix("aquila2[").removesuffix("]").split(","))
    # What only the examples need is left out too.
    assert inside == EXTRAS - {"all", "dev", "rag", "vllm", "flash-attn"}


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """B3: unpacked alone it imports, and validates as the checkout does."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import aquila2_runtime as a, sys; print(a.__file__);"
        "a.SamplingParams(temperature=0); from aquila2_runtime.runtime import Aquila2Runtime"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)

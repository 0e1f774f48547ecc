"""Fixtures every test may use: reference data, the demo checkpoint, one loaded runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Said before anything imports a hub client: no test, and no process a test starts, may download.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["LANGSMITH_TRACING"] = "false"
# One thread: OpenMP pools of several processes on few cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Without a GPU, Triton's kernels run in its interpreter; it must know before it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Triton 3.9 warns at the first kernel where this is not said, which is an error here: none would be
# launched on a GPU, and the reference attention tested in their place.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

if TYPE_CHECKING:
    from aquila2_runtime import Aquila2Runtime

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
EMBEDDED = ROOT / "aquila2_runtime" / "demo"
TRIAL = SHARED / "aquila2-demo-trial"


def find_demo() -> Path | None:
    """The embedded checkpoint, or the trial one where the weights are not there yet."""
    for directory in (EMBEDDED, TRIAL):
        if (directory / "model.safetensors").is_file():
            return directory
    return None


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference data beside the checkout: the real tokenizer and goldens."""
    if not SHARED.is_dir():
        pytest.skip("the reference data is not there (shared/data beside the checkout)")
    return SHARED


@pytest.fixture(scope="session")
def demo_path() -> Path:
    """Directory of the demo checkpoint."""
    found = find_demo()
    if found is None:
        pytest.skip("the demo checkpoint's weights are not there")
    return found


@pytest.fixture(scope="session")
def demo_model(demo_path: Path) -> str:
    """What to give as ``model=``: the released name where the weights are embedded."""
    return "aquila2-demo" if demo_path == EMBEDDED else str(demo_path)


@pytest.fixture(scope="session")
def demo_runtime(demo_path: Path, demo_model: str) -> Iterator[Aquila2Runtime]:
    """The demo checkpoint, loaded once for the whole run; do not close it."""
    from aquila2_runtime import Aquila2Runtime

    template = None if demo_path == EMBEDDED else "aquila-v1"
    with Aquila2Runtime.load(demo_model, device="cpu", template=template) as runtime:
        yield runtime

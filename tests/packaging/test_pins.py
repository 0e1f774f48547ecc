"""constraints.txt: exact public versions that satisfy what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
PINS = dict(line.split("==") for line in LINES)


def test_every_pin_is_one_exact_public_version() -> None:
    """B2: no local builds, addresses or options."""
    assert len(LINES) > 50
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line
        assert Version(line.split("==")[1]).local is None
    assert PINS["torch"] == "2.13.0"


def test_the_pins_satisfy_every_requirement_they_name() -> None:
    """B2: what CI tests is inside the ranges users get."""
    asked = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        asked += extra
    missing = []
    for text in asked:
        requirement = Requirement(text)
        pin = PINS.get(canonicalize_name(requirement.name))
        if pin is None:
            missing.append(requirement.name)
        else:
            assert requirement.specifier.contains(pin), text
    # They need a GPU or a build; triton is left to torch, see there.
    assert set(missing) <= {"aquila2", "bitsandbytes", "flash-attn", "triton", "vllm"}


def test_lower_bounds_leave_out_versions_with_known_holes() -> None:
    """B2: the restricted unpickler is sound from torch 2.10 on."""
    floors = {Requirement(text).name: Requirement(text) for text in PROJECT["dependencies"]}
    assert not floors["torch"].specifier.contains("2.9.1")
    langchain = Requirement(PROJECT["optional-dependencies"]["langchain"][0])
    assert not langchain.specifier.contains("1.3.2")
    llamaindex = Requirement(PROJECT["optional-dependencies"]["llamaindex"][0])
    assert not llamaindex.specifier.contains("0.12.40")

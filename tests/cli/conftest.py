"""Running the command line: mostly in this process, where the demo model is loaded already."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aquila2_runtime.cli.app import app

Completed = subprocess.CompletedProcess[str]
Run = Callable[..., Completed]


def environment(**extra: str) -> dict[str, str]:
    """The test's environment, wide and without colours."""
    return os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"} | extra


@pytest.fixture
def process(root: Path) -> Run:
    """Run ``aquila2`` as users do, in a process of its own."""

    def run(*arguments: str, stdin: str = "", **extra: str) -> Completed:
        return subprocess.run(
            [sys.executable, "-m", "aquila2_runtime.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            cwd=root,
            env=environment(**extra),
            timeout=100,
        )

    return run


@pytest.fixture
def aquila2() -> Run:
    """Run ``aquila2`` here; standard input is empty unless given."""

    def run(*arguments: str, stdin: str | bytes = "", **extra: str) -> Completed:
        result = CliRunner().invoke(app, list(arguments), input=stdin, env=environment(**extra))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(
            ["aquila2", *arguments], result.exit_code, result.stdout, result.stderr
        )

    return run


@pytest.fixture(scope="session")
def demo_flags(demo_path: Path, demo_model: str) -> list[str]:
    """What makes a command use the demo checkpoint on the CPU."""
    template = [] if demo_model == "aquila2-demo" else ["--template", "aquila-v1"]
    return ["--model", demo_model, "--device", "cpu", *template]

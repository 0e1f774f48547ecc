"""``aquila2 serve``: it says where it is, answers, and ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.conftest import Run, environment

pytest.importorskip("fastapi", reason="the server needs aquila2[serve]")
pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_told_to_end(
    root: Path, demo_model: str, number: signal.Signals
) -> None:
    arguments = ["serve", "--model", demo_model, "--port", "0", "--served-model-name", "mine"]
    # A shell's background job would have SIGINT ignored, and the child with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "aquila2_runtime.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
            env=environment(AQUILA2_API_KEY="a-key-of-tests"),
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    url = None
    for line in process.stderr:
        if match := re.search(r"(http://127\.0\.0\.1:\d+/v1)", line):
            url = match[1]
            break
    assert url is not None
    asked = urllib.request.Request(
        f"{url}/models", headers={"Authorization": "Bearer a-key-of-tests"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        assert json.load(answer)["data"][0]["id"] == "mine"
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode in (130, -number)


def test_other_machines_are_refused_without_a_key(aquila2: Run) -> None:
    ran = aquila2("serve", "--host", "0.0.0.0")
    assert ran.returncode == 2
    assert "AQUILA2_API_KEY" in ran.stderr


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(aquila2: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = aquila2("serve", "--port", str(port))
    assert ran.returncode == 2
    assert str(port) in ran.stderr
    assert "loading" not in ran.stderr

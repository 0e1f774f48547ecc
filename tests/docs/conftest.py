"""What tests of the examples share: their folder on the path, and the page served for real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aquila2_runtime import Aquila2Runtime
from tests.untrained import untrained_copy

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
if str(EXAMPLES) not in sys.path:
    # As Python does for a script in it.
    sys.path.append(str(EXAMPLES))


def run(*arguments: str, timeout: float, told: str = "") -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter from the top of the repository."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=told,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
        timeout=timeout,
    )


def run_python(*arguments: str, timeout: float, told: str = "") -> str:
    """What a fresh interpreter prints, which must end well."""
    done = run(*arguments, timeout=timeout, told=told)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def serving(runtime: Aquila2Runtime, max_tokens: int = 512) -> Iterator[int]:
    """Serve the page of examples/app.py on a free port of this machine, which is given."""
    for name in ("fastapi", "uvicorn", "pypdf"):
        pytest.importorskip(name, reason="the page needs aquila2[serve,rag]")
    import uvicorn
    from web.server import make_app

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = make_app(runtime, port, max_tokens)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def endless(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aquila2Runtime]:
    """A model whose answers go on to their limit: random weights hardly ever end a text."""
    path = untrained_copy(demo_path, tmp_path_factory.mktemp("endless") / "model")
    with Aquila2Runtime.load(path, template="aquila-v1", device="cpu") as runtime:
        yield runtime

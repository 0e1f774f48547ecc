"""Fixtures of the checkpoint tests: a hub on this machine, which the real clients are sent to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoint.hub_server import Hub, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with serve(Hub()) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server
        close = getattr(huggingface_hub, "close_session", None)
        if close is not None:
            close()

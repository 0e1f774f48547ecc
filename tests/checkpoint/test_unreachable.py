"""What a hub that cannot be reached is, and what only looks like one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from aquila2_runtime.checkpoint import download, transfer
from aquila2_runtime.checkpoint.unreachable import is_unreachable
from aquila2_runtime.errors import DownloadError
from tests.checkpoint.hub_server import Fault, Hub
from tests.checkpoint.test_download import fetch, files_of

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1", "localhost", "::1"])]


class Answered(Exception):
    """An error about an answer with some status."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.response = self
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), True),
        (TimeoutError(), True),
        (EOFError(), True),
        (Answered(503), True),
        (Answered(429), False),
        (Answered(401), False),
        (OSError(errno.ENOSPC, ""), False),
        (OSError(errno.EDQUOT, ""), False),
        (PermissionError(errno.EACCES, ""), False),
        (AttributeError(), False),
    ],
)
def test_only_no_answer_or_a_failing_server_is_an_unreachable_hub(
    error: Exception, expected: bool
) -> None:
    assert is_unreachable(error) is expected


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_what_hugging_faces_clients_library_raises_is_told_apart(library: str) -> None:
    httpx = pytest.importorskip(library)
    for name in ("ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "ProxyError"):
        assert is_unreachable(getattr(httpx, name)(""))
    assert is_unreachable(httpx.RemoteProtocolError(""))
    assert not is_unreachable(httpx.InvalidURL(""))


def test_what_modelscopes_clients_library_raises_is_told_apart() -> None:
    requests = pytest.importorskip("requests")
    for name in ("ConnectionError", "ProxyError", "ReadTimeout", "ChunkedEncodingError"):
        assert is_unreachable(getattr(requests.exceptions, name)())
    assert not is_unreachable(requests.exceptions.InvalidURL())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk of the cache became full"),
        (KeyError("a bug"), "KeyError"),
    ],
)
def test_an_update_that_fails_on_this_machine_is_no_unreachable_hub(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    said: str,
) -> None:
    """The old revision was used, and the hub blamed for it."""
    hub.add("someone/model", files_of(tmp_path))
    fetch(tmp_path)
    newer = hub.add("someone/model", files_of(tmp_path, max_position_embeddings=256))

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(download, "fetch_blobs", fail)
        with pytest.raises(DownloadError, match=said):
            fetch(tmp_path)
    assert "cannot be reached" not in caplog.text
    assert fetch(tmp_path).revision == newer


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_copy_in_a_cache_that_others_share_is_used_and_the_reason_said(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """A laboratory's cache: it is not for its readers to bring up to date."""
    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    hub.add("someone/model", files_of(tmp_path, max_position_embeddings=256))

    def fail(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(download, "fetch_blobs", fail)
    assert fetch(tmp_path) == first
    assert "may not be written to; its copy" in caplog.text
    hub.add("someone/other", files_of(tmp_path))
    with pytest.raises(DownloadError, match="may not be written to"):
        fetch(tmp_path, "someone/other")


def test_a_complete_copy_is_used_when_there_is_no_connection(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch(tmp_path) == first
    assert "cached copy" in caplog.text


@pytest.mark.parametrize("cut", [True, False])
def test_a_complete_copy_is_used_when_an_update_breaks_off(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    hub.add("someone/model", files_of(tmp_path))
    first = fetch(tmp_path)
    hub.add("someone/model", files_of(tmp_path, max_position_embeddings=256))
    monkeypatch.setattr(transfer, "_WAITS", ())
    hub.faults["*"] = Fault(cut=0 if cut else None, status=None if cut else 502, times=None)
    assert fetch(tmp_path) == first

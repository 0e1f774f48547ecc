"""Who may ask the server, and how much: keys, names, origins, bodies."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from aquila2_runtime import Aquila2Runtime, InvalidRequestError
from aquila2_runtime.server import ServerSettings
from tests.server.conftest import KEY, Raw, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]


@pytest.fixture
def guarded(demo_runtime: Aquila2Runtime) -> Iterator[Raw]:
    """A server with a key, for pages of one site, that reads little and does not wait long."""
    settings = ServerSettings(
        api_key=KEY,
        served_name="aquila2-demo",
        origins=("https://Example.org",),
        max_body_bytes=2_000,
        body_seconds=0.5,
    )
    with serving(demo_runtime, settings) as port:
        yield Raw(port)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong-key", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer ä"]
)
def test_without_the_key_nothing_but_health_is_answered(guarded: Raw, given: str) -> None:
    sent = {"Authorization": given} if given else {}
    for method, path in (
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/nothing"),
        ("GET", "/health/"),
    ):
        status, headers, said = guarded(method, path, None, **sent)
        assert (status, said["error"]["code"]) == (401, "invalid_api_key")
        assert headers["www-authenticate"] == "Bearer"
    assert guarded("GET", "/health", None, **sent)[0] == 200


def test_with_the_key_the_client_is_answered(guarded: Raw) -> None:
    url = f"http://127.0.0.1:{guarded.port}/v1"
    with openai.OpenAI(base_url=url, api_key=KEY) as client:
        assert client.models.list().data[0].id == "aquila2-demo"
    with (
        openai.OpenAI(base_url=url, api_key="another") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.2:80", 200),
        ("[::1]:8000", 200),
        ("rebound.example", 403),
        ("rebound.example:8000", 403),
        ("localhost.example", 403),
        ("192.168.1.5", 403),
        ("", 403),
    ],
)
def test_a_local_server_answers_to_local_names_alone(raw: Raw, host: str, status: int) -> None:
    assert raw("GET", "/v1/models", None, Host=host)[0] == status


def test_names_can_be_added_or_left_open(demo_runtime: Aquila2Runtime) -> None:
    for hosts, status in ((("api.example",), 200), (None, 200), ((), 403)):
        with serving(demo_runtime, ServerSettings(hosts=hosts)) as port:
            assert Raw(port)("GET", "/v1/models", None, Host="api.example:1")[0] == status


def test_pages_of_other_sites_may_not_ask(guarded: Raw) -> None:
    key = f"Bearer {KEY}"
    for origin, expected in (("https://example.org", 200), ("https://evil.example", 403)):
        status, headers, _ = guarded("GET", "/v1/models", None, Authorization=key, Origin=origin)
        assert status == expected
        if expected == 403:
            assert "access-control-allow-origin" not in headers


def test_browsers_are_told_which_pages_may_ask(guarded: Raw, raw: Raw) -> None:
    asks = {
        "Access_Control_Request_Method": "POST",
        # Those of OpenAI's client for browsers.
        "Access_Control_Request_Headers": "authorization,content-type,x-stainless-arch",
    }
    own, other = "https://example.org", "https://evil.example"
    path = "/v1/chat/completions"
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in asks.items()}
    for origin, status in ((own, 200), (other, 400)):
        connection.request("OPTIONS", path, headers=named | {"Origin": origin})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        assert answer.getheader("Access-Control-Allow-Origin") == (own if origin == own else None)
    connection.close()
    # An answer, and a refusal, can be read by the page.
    for key, status in ((f"Bearer {KEY}", 200), ("Bearer wrong", 401)):
        found, headers, _ = guarded("GET", "/v1/models", None, Authorization=key, Origin=own)
        assert (found, headers["access-control-allow-origin"]) == (status, own)
    # Where no site is named there is no CORS at all.
    assert raw("OPTIONS", path, None, Origin=own, **asks)[0] == 403


def test_a_body_that_is_too_large_is_not_read(guarded: Raw) -> None:
    key = f"Bearer {KEY}"
    long = "x" * 3_000
    status, _, said = guarded("POST", "/v1/chat/completions", long, Authorization=key)
    assert (status, said["error"]["type"]) == (413, "invalid_request_error")
    # Its length may also be told wrongly, or not at all.
    told = _sent(guarded.port, "Transfer-Encoding: chunked", b"bb8\r\n" + long.encode() + b"\r\n")
    assert told.startswith(b"HTTP/1.1 413")


def test_a_body_that_never_comes_is_not_waited_for(guarded: Raw) -> None:
    began = time.monotonic()
    assert _sent(guarded.port, "Content-Length: 100", b"{").startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 20
    assert guarded("GET", "/health")[0] == 200


def _sent(port: int, header: str, body: bytes) -> bytes:
    """What is answered to a request that does not end."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: application/json\r\n{header}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        return connection.recv(4096)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org"])
def test_other_machines_are_served_with_a_key_alone(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="AQUILA2_API_KEY"):
        ServerSettings().check_address(host)
    ServerSettings(api_key=KEY).check_address(host)
    for own in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        ServerSettings().check_address(own)


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": "short"},
        {"api_key": "with a blank"},
        {"api_key": "schlüssel-lang"},
        {"api_key": 12345678},
        {"served_name": ""},
        {"hosts": "localhost"},
        {"origins": [1]},
        {"origins": ["https://example.org/"]},  # browsers send no slash
        {"origins": ["example.org"]},
        {"origins": ["*"]},
        {"max_body_bytes": 0},
        {"body_seconds": float("nan")},
        {"ping_seconds": True},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidRequestError) as caught:
        ServerSettings(**wrong)
    assert caught.value.parameter == name
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    "origin", ["https://example.org", "http://[::1]:3000", "null", "app://localhost"]
)
def test_origins_as_browsers_send_them_are_taken(origin: str) -> None:
    assert ServerSettings(origins=(origin,)).origins == (origin,)

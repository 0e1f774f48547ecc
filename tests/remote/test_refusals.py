"""What is wrong with a server is said when it is named, and nothing is sent that it cannot heed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    InvalidLoadOptionError,
    InvalidRequestError,
    Message,
    RuntimeLease,
    SamplingParams,
    ServerError,
)
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.server import ServerSettings
from tests.remote.conftest import DONE, NAME, Script, events, piece, scripted
from tests.server.conftest import KEY, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
ASKED = [Message("user", "Hello!")]
URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def load(demo_model: str) -> Iterator[Any]:
    """Load the demo checkpoint at a server; closed afterwards."""
    loaded: list[Aquila2Runtime] = []

    def asked(base_url: str, **options: Any) -> Aquila2Runtime:
        options = {"engine": "openai", "template": "aquila-v1"} | options
        loaded.append(Aquila2Runtime.load(demo_model, base_url=base_url, **options))
        return loaded[-1]

    yield asked
    for runtime in loaded:
        runtime.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantization", "nf4"),
        ("device", "cpu"),
        ("dtype", "bfloat16"),
        ("kv_cache_memory", "1GiB"),
        ("kv_cache_dtype", "int8"),
        ("prefix_cache", False),
        ("speculation", "ngram"),
        ("attention", "gathered"),
        ("cuda_graphs", False),
    ],
)
def test_what_the_server_decides_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidLoadOptionError, match="where the server decides it") as caught:
        LoadOptions(model="m", engine="openai", base_url=URL, **{name: value})
    assert caught.value.parameter == name


@pytest.mark.parametrize(
    "address",
    [
        None, "", "node:8000/v1", "ftp://node/v1", "http://", "http:///v1", "http://node:99999/v1",
        "http://node:0/v1", "http://node/v1?key=1", "http://node/v1#a", "http://no de/v1",
        "http://node/v1\n", "http://" + "n" * 3_000, 8000, "http://[::1/v1",
    ],
)  # fmt: skip
def test_an_address_must_be_one(address: Any) -> None:
    with pytest.raises(InvalidLoadOptionError) as caught:
        LoadOptions(model="m", engine="openai", base_url=address)
    assert caught.value.parameter == "base_url"


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hush@node/v1", "http://me:hush@node:99999/v1", "ftp://me:hush@node/v1",
        "http://me:hu sh@node/v1", "http://node/v1?api_key=hush", "http://node/v1#hush",
    ],
)  # fmt: skip
def test_a_secret_in_an_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(InvalidLoadOptionError, match="AQUILA2_REMOTE_API_KEY") as caught:
        LoadOptions(model="m", engine="openai", base_url=address)
    assert "hush" not in str(caught.value) + repr(caught.value.value)


@pytest.mark.parametrize("key", ["schlüssel", "two words", "a\tb"])
def test_a_key_that_no_header_can_carry_is_named(
    load: Any, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("AQUILA2_REMOTE_API_KEY", key)
    with pytest.raises(InvalidLoadOptionError, match="AQUILA2_REMOTE_API_KEY") as caught:
        load(URL)
    assert key not in str(caught.value)


def test_a_key_that_the_server_repeats_is_not_told(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUILA2_REMOTE_API_KEY", "hush-hush\n")
    script = Script()
    script.answer = events('{"detail": "Bearer hush-hush is wrong"}', status=400)
    with scripted(script) as url, pytest.raises(InvalidRequestError) as caught:
        load(url).chat(ASKED)
    assert script.headers[-1]["Authorization"] == "Bearer hush-hush"
    assert "hush" not in str(caught.value)


def test_addresses_that_mean_the_same_are_equal_options() -> None:
    one, other = (LoadOptions(model="m", engine="openai", base_url=u) for u in (URL, URL + "/"))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("name", ["base_url", "remote_model"])
def test_a_server_is_named_with_its_engine(name: str) -> None:
    with pytest.raises(InvalidLoadOptionError, match='unless engine="openai"') as caught:
        LoadOptions(model="m", **{name: URL})
    assert caught.value.parameter == name


def test_an_engine_must_be_one() -> None:
    with pytest.raises(InvalidLoadOptionError, match="'torch', 'openai'"):
        LoadOptions(model="m", engine="vllm")


def test_nobody_there_is_said_at_once(load: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerError, match="could not be reached") as caught:
        load(f"http://127.0.0.1:{port}/v1")
    assert caught.value.retryable
    assert caught.value.parameter == "base_url"


def test_the_wrong_address_of_the_right_server_is_said(load: Any, address: str) -> None:
    with pytest.raises(InvalidLoadOptionError, match='mostly ends in "/v1"'):
        load(address.removesuffix("/v1"))


def test_the_key_comes_from_the_environment(
    load: Any, demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(demo_runtime, ServerSettings(served_name=NAME, api_key=KEY)) as port:
        url = f"http://127.0.0.1:{port}/v1"
        with pytest.raises(InvalidLoadOptionError, match="AQUILA2_REMOTE_API_KEY"):
            load(url)
        monkeypatch.setenv("AQUILA2_REMOTE_API_KEY", KEY)
        runtime = load(url)
        said = runtime.chat(ASKED, SamplingParams(temperature=0, max_tokens=4))
    assert said.choices[0].token_ids
    assert KEY not in repr(runtime) + str(runtime.info) + repr(runtime._use.model)


def test_the_only_model_is_taken_and_its_adapters_are_not(load: Any) -> None:
    script = Script()
    script.models = {"data": [{"id": "a"}, {"id": "law", "parent": "a"}]}
    script.answer = events(piece(300, finish="stop"), DONE)
    with scripted(script) as url:
        runtime = load(url, adapters={"lawyer": "law"})
        runtime.chat(ASKED)
        runtime.chat(ASKED, adapter="lawyer")
        assert [body["model"] for body in script.bodies] == ["a", "law"]
        with pytest.raises(InvalidLoadOptionError, match="no adapter"):
            load(url, adapters={"other": "a"})
        with pytest.raises(InvalidLoadOptionError, match="'a', 'law'") as caught:
            load(url, adapters={"doctor": "med"})
        assert caught.value.parameter == "adapters"


@pytest.mark.parametrize("ids", [["x", "y"], []])
def test_of_several_models_one_must_be_named(load: Any, ids: list[str]) -> None:
    script = Script()
    script.models = {"data": [{"id": name} for name in ids]}
    with scripted(script) as url, pytest.raises(InvalidLoadOptionError) as caught:
        load(url)
    assert caught.value.parameter == "remote_model"


def test_of_several_models_the_one_of_the_checkpoints_name_is_taken(load: Any) -> None:
    script = Script()
    script.answer = events(piece(300, finish="stop"), DONE)
    script.models = {"data": [{"id": "x"}, {"id": "BAAI/Aquila2-Demo"}]}
    with scripted(script) as url:
        load(url).chat(ASKED)
        load(url, remote_model="x").chat(ASKED)
        with pytest.raises(InvalidLoadOptionError, match="'z' is not at the server"):
            load(url, remote_model="z")
    assert [body["model"] for body in script.bodies] == ["BAAI/Aquila2-Demo", "x"]


def test_the_shorter_of_both_contexts_counts(load: Any) -> None:
    with scripted(Script()) as url:
        assert load(url).info.max_model_len == 512
        assert load(url, max_model_len=100).info.max_model_len == 100
        with pytest.raises(InvalidLoadOptionError, match="the server reads 512 tokens"):
            load(url, max_model_len=1000)


@pytest.mark.parametrize(
    "listed", [b"no json", {"data": 1}, [], {"error": "x"}, b"\xff", b"[" * 100_000, 500, 503]
)
def test_what_is_no_such_server_is_said(load: Any, listed: Any) -> None:
    script = Script()
    script.models = listed
    with scripted(script) as url, pytest.raises(ServerError):
        load(url)


def test_a_list_of_models_has_an_end(load: Any) -> None:
    script = Script()
    script.models = b"[" + b" " * 5_000_000 + b"]"
    with scripted(script) as url, pytest.raises(ServerError, match="4 MiB"):
        load(url)


@pytest.mark.parametrize("listed", [401, 403, 404])
def test_what_is_not_for_us_is_said(load: Any, listed: int) -> None:
    script = Script()
    script.models = listed
    with scripted(script) as url, pytest.raises(InvalidLoadOptionError):
        load(url)


def test_what_a_server_may_not_know_is_sent_all_the_same(load: Any) -> None:
    script = Script()
    script.answer = events(piece(300, finish="stop"), DONE)
    with scripted(script) as url:
        load(url).chat(ASKED, SamplingParams(temperature=0, max_tokens=5))
    (body,) = script.bodies
    # A server's own defaults may be the checkpoint's: top_p 0.9, say.
    assert body["top_p"] == 1.0
    assert body["top_k"] == 0
    assert body["repetition_penalty"] == 1.0
    assert "seed" not in body
    assert body["stop_token_ids"]


def test_what_is_known_of_a_model_is_the_servers_once_it_is_there(demo_model: str) -> None:
    with scripted(Script()) as url:
        lease = RuntimeLease(model=demo_model, engine="openai", base_url=url, template="aquila-v1")
        assert lease.facts().max_model_len == 4096
        lease.runtime()
        assert lease.facts().max_model_len == 512
        lease.close()


def test_a_proxy_that_cannot_be_used_is_named(
    load: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:1")
    with pytest.raises(InvalidLoadOptionError, match="NO_PROXY"):
        load(address)

"""The adapters, the command line and the server over weights that another server has."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage
from typer.testing import CliRunner

from aquila2_runtime import Aquila2Runtime, Message, RuntimeLease, SamplingParams
from aquila2_runtime.cli.app import app
from aquila2_runtime.server import ServerSettings
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from langchain_aquila2.errors import InvalidLoadOptionError, ServerError
from llamaindex_aquila2 import Aquila2
from tests.remote.conftest import Script, scripted
from tests.server.conftest import serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
TEXT = "The director of Oak Ltd is Vera Noll.\n\nWho is the director of Oak Ltd?"
PARAMS = SamplingParams(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def there(address: str, demo_model: str, demo_runtime: Aquila2Runtime) -> dict[str, Any]:
    """What says where the demo checkpoint is, for any adapter."""
    options = {"model": demo_model, "engine": "openai", "base_url": address, "temperature": 0}
    return options | {"max_tokens": 12, "template": demo_runtime.info.template}


@pytest.fixture(scope="module")
def expected(demo_runtime: Aquila2Runtime) -> str:
    return demo_runtime.chat([Message("user", TEXT)], PARAMS).text


def test_langchain(there: dict[str, Any], expected: str, demo_runtime: Aquila2Runtime) -> None:
    with ChatAquila2(**there) as chat:
        assert chat.invoke(TEXT).content == expected
        assert "".join(str(chunk.content) for chunk in chat.stream(TEXT)) == expected
        assert [said.content for said in chat.batch([TEXT] * 3)] == [expected] * 3
        assert chat.get_num_tokens_from_messages([HumanMessage(TEXT)]) == len(
            demo_runtime.render([Message("user", TEXT)])
        )
    with Aquila2LLM(**there) as llm:
        assert llm.invoke("The town of") == demo_runtime.complete("The town of", PARAMS).text


async def test_langchain_awaited(there: dict[str, Any], expected: str) -> None:
    with ChatAquila2(**there) as chat:
        assert (await chat.ainvoke(TEXT)).content == expected


def test_llamaindex(there: dict[str, Any], expected: str) -> None:
    llm = Aquila2(**there)
    try:
        assert llm.chat([ChatMessage(role="user", content=TEXT)]).message.content == expected
        pieces = [r.delta for r in llm.stream_chat([ChatMessage(role="user", content=TEXT)])]
        assert "".join(piece or "" for piece in pieces) == expected
        assert llm.metadata.context_window > 4_000
    finally:
        llm.close()


def test_a_server_in_front_gives_another_ones_answers_the_templates(
    far: Aquila2Runtime, expected: str
) -> None:
    with serving(far, ServerSettings(served_name="front")) as port:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        said = client.chat.completions.create(
            model="front", messages=[{"role": "user", "content": TEXT}], temperature=0, max_tokens=9
        )
        client.close()
    assert said.choices[0].message.content == expected


def test_a_key_in_a_model_is_refused(there: dict[str, Any]) -> None:
    with pytest.raises(InvalidLoadOptionError, match="AQUILA2_REMOTE_API_KEY") as caught:
        ChatAquila2(**there, api_key="hush-hush")
    assert "hush" not in str(caught.value)


def test_a_server_that_is_away_is_a_failure_of_the_connection(there: dict[str, Any]) -> None:
    with scripted(Script()) as url:
        gone = url
    with ChatAquila2(**there | {"base_url": gone}) as chat, pytest.raises(ServerError) as caught:
        chat.invoke(TEXT)
    assert caught.value.retryable


def test_models_at_one_address_share_their_connections(there: dict[str, Any]) -> None:
    with ChatAquila2(**there) as one, ChatAquila2(**there) as other, copy.copy(one) as third:
        found = {id(each.warmup()._lease.runtime()) for each in (one, other, third)}
        assert len(found) == 1
        assert one.base_url == there["base_url"]


def test_a_pickled_claim_asks_the_same_server(there: dict[str, Any], address: str) -> None:
    options = {key: there[key] for key in ("model", "engine", "base_url", "template")}
    lease = pickle.loads(pickle.dumps(RuntimeLease(**options)))
    assert lease.options.base_url == address
    assert lease.options.engine == "openai"
    lease.close()


def test_caches_know_servers_apart(there: dict[str, Any]) -> None:
    one = ChatAquila2(**there)
    other = ChatAquila2(**there | {"base_url": "http://127.0.0.1:9/v1"})
    assert one._get_llm_string() != other._get_llm_string()


def test_the_command_line(address: str, demo_model: str, expected: str) -> None:
    asked = ["generate", TEXT, "--model", demo_model, "--base-url", address, "--max-tokens", "12"]
    result = CliRunner().invoke(app, [*asked, "--template", "aquila-v1", "--quiet"])
    assert (result.exit_code, result.stdout.strip()) == (0, expected)
    result = CliRunner().invoke(app, [*asked, "--remote-model", "nobody"])
    assert result.exit_code == 2
    assert "'nobody' is not at the server" in result.stderr

"""What is wrong with a request is told in OpenAI's form: the status, the parameter, the remedy."""

from __future__ import annotations

import json
import random
from typing import Any

import openai
import pytest
from pydantic import ValidationError

from aquila2_runtime import Aquila2Runtime, errors
from aquila2_runtime.server import ServerSettings, bodies, failures
from tests.server.conftest import Raw, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
HELLO = [{"role": "user", "content": "Hello!"}]


def _message(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "Hello!"} | fields]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"a": 1}}, "logit_bias key"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias key"),
        ({"logit_bias": {"1": "a"}}, "logit_bias value"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"seed": 2**70}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"temperatur": 1}, "temperatur"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"fit": "somehow"}, "fit"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "nothing"}, "tool_choice"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0.type"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello!"}, "messages"),
        ({"messages": _message(role="robot")}, "messages.0.role"),
        ({"messages": _message(content=None)}, "messages.0.content"),
        ({"messages": _message(content=[{"type": "text"}])}, "messages.0.content.0"),
        ({"messages": _message(tool_calls=[])}, None),
        ({"messages": _message(extra=1)}, "messages.0.extra"),
        ({"messages": _message(content="\ud800")}, None),
    ],
)
def test_the_parameter_at_fault_is_named(raw: Raw, fields: dict[str, Any], param: str) -> None:
    status, _, said = raw.chat(**fields)
    if fields.get("messages") == _message(tool_calls=[]):
        assert status == 200  # it says nothing
        return
    assert status == 400, said
    assert said["error"]["type"] == "invalid_request_error"
    if param is not None:
        # A tagged choice may be named by its whole list.
        assert said["error"]["param"] in (param, param.partition(".")[0])
    assert said["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"prompt": []}, "prompt", "at least 1 item"),
        ({"prompt": ["a"] * 129}, "prompt", "at most 128 items"),
        ({"prompt": ["a", 5]}, "prompt", "valid string; or "),
        ({"prompt": "a", "stop": [5]}, "stop", "valid string"),
        ({"prompt": "a", "structured_outputs": {"json": 5}}, "structured_outputs.json", "boolean"),
        ({"messages": _message(content=5)}, "messages.0.content", "valid list"),
        ({"messages": _message(content=["a"])}, "messages.0.content", "valid dictionary"),
    ],
)
def test_a_field_that_may_be_several_things_is_named_and_all_of_them_are_told(
    raw: Raw, fields: dict[str, Any], param: str, told: str
) -> None:
    path = "/v1/chat/completions" if "messages" in fields else "/v1/completions"
    status, _, said = raw("POST", path, {"model": "aquila2-demo"} | fields)
    assert (status, said["error"]["param"]) == (400, param)
    assert said["error"]["message"].startswith(f"{param}: ")
    assert told in said["error"]["message"]


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "file:///etc/passwd", "data:image/png;base64,AAAA"]
)
def test_nothing_that_a_message_points_to_is_opened(raw: Raw, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    status, _, said = raw.chat(messages=_message(content=[part]))
    assert status == 400
    assert "text alone" in said["error"]["message"]


def test_a_prompt_that_is_too_long_is_told_as_openai_does(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="aquila2-demo", messages=_message(content="word " * 9000)
        )
    assert caught.value.code == "context_length_exceeded"
    # Also as a stream: the status is not sent before the request was looked at.
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="aquila2-demo", messages=_message(content="word " * 9000), stream=True
        )


def test_another_model_is_not_found_and_those_there_are_named(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="aquila2-demo") as caught:
        client.chat.completions.create(model="gpt-5", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", None, 404),
        ("GET", "/docs", None, 404),
        ("GET", "/openapi.json", None, 404),
        ("POST", "/v1/embeddings", {"input": "a"}, 404),
        ("GET", "/v1/chat/completions", None, 405),
        ("POST", "/v1/chat/completions", "{", 400),
        ("POST", "/v1/chat/completions", "[" * 100_000, 400),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400),
        ("POST", "/v1/chat/completions", "null", 400),
        ("POST", "/v1/chat/completions", '{"model": "aquila2-demo", "temperature": NaN}', 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo"}, 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo", "prompt": []}, 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo", "prompt": [-1]}, 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo", "prompt": [[4096]]}, 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo", "prompt": "a", "echo": True}, 400),
        ("POST", "/v1/completions", {"model": "aquila2-demo", "prompt": ["a"] * 129}, 400),
    ],
)
def test_every_failure_has_openais_form(
    raw: Raw, method: str, path: str, body: Any, status: int
) -> None:
    found, headers, said = raw(method, path, body)
    assert found == status, said
    assert headers["content-type"] == "application/json"
    assert ("allow" in headers) == (status == 405)
    assert set(said["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": [1] * 2_000},
        {"stop_token_ids": ["a"] * 2_000},
        {"logit_bias": {str(number): "a" for number in range(2_000)}},
        {"metadata": {str(number): 1 for number in range(2_000)}},
        {f"k{number}": 1 for number in range(2_000)},
        {"stream_options": {f"k{number}": 1 for number in range(2_000)}},
        {"tools": [1] * 2_000},
        {"tools": [{"type": "function", "function": {"name": "a"}}] * 2_000},
        {"messages": [1] * 2_000},
        {"messages": [{f"k{number}": 1 for number in range(2_000)}] * 2},
        {"messages": _message(content=[1] * 2_000)},
        {"messages": _message(tool_calls=[1] * 2_000)},
        {"prompt": [0.5] * 2_000},
        {"prompt": [["a"] * 2_000] * 100},
    ],
)
def test_faults_without_number_are_not_told_one_by_one(fields: dict[str, Any]) -> None:
    kind = bodies.CompletionBody if "prompt" in fields else bodies.ChatBody
    asked = {"model": "m"} if "prompt" in fields else {"model": "m", "messages": HELLO}
    try:
        kind.model_validate(asked | fields)
    except ValidationError as error:
        assert error.error_count() < 5
    else:
        assert set(fields) <= {"logit_bias", "metadata"}  # the runtime counts the former itself


def test_no_body_makes_the_server_fail(raw: Raw) -> None:
    """W5: bodies made of right and wrong pieces are answered or refused, and nothing else."""
    rng = random.Random(5)
    values: list[Any] = [None, True, -1, 0, 1, 2**65, 1.5, "", "a", [], ["a"], {}, {"a": 1}, [[1]]]
    names = [
        *("model", "messages", "max_tokens", "n", "stop", "stream", "logit_bias", "tools", "seed"),
        *("tool_choice", "response_format", "stop_token_ids", "min_tokens", "cache_salt", "prompt"),
    ]
    for _ in range(60):
        body = {"model": "aquila2-demo", "messages": HELLO, "max_tokens": 1}
        path = rng.choice(["/v1/chat/completions", "/v1/completions"])
        if path == "/v1/completions":
            body = {"model": "aquila2-demo", "prompt": "a", "max_tokens": 1}
        for name in rng.sample(names, 2):
            body[name] = rng.choice(values)
        connection_status, _, _ = _status(raw, path, body)
        assert connection_status in (200, 400, 404), body
    assert raw.chat()[0] == 200


def _status(raw: Raw, path: str, body: Any) -> tuple[int, Any, Any]:
    if body.get("stream") is True:
        body = body | {"stream": False}
    return raw("POST", path, json.dumps(body))


def test_a_closed_runtime_is_told_by_health_and_by_status(demo_model: str) -> None:
    runtime = Aquila2Runtime.load(demo_model, device="cpu", max_model_len=64)
    with serving(runtime, ServerSettings(served_name="aquila2-demo")) as port:
        raw = Raw(port)
        assert raw("GET", "/health")[0] == 200
        runtime.close()
        assert raw("GET", "/health")[0] == 503
        status, headers, said = raw.chat()
        assert (status, said["error"]["type"]) == (503, "server_error")
        assert "retry-after" in headers


def _all(kind: type[errors.Aquila2Error]) -> list[type[errors.Aquila2Error]]:
    return [kind, *(below for each in kind.__subclasses__() for below in _all(each))]


def test_every_error_of_ours_has_a_status_that_says_whose_fault_it_is() -> None:
    for kind in _all(errors.Aquila2Error):
        error = kind.__new__(kind)
        status = failures.status_of(error)
        if issubclass(kind, errors.InvalidRequestError):
            assert status == 400
        else:
            assert status in (404, 429, 500, 501, 502, 503, 504), kind
        if kind.retryable and not issubclass(kind, errors.DownloadError):
            assert status in (429, 502, 503, 504), kind

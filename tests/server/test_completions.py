"""Plain text and ids continued over HTTP, and adapters as models of their own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime.server import ServerSettings
from tests.runtime.support import wait_until
from tests.server.conftest import Raw, serving

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
PARAMS = SamplingParams(temperature=0, max_tokens=6)
ASKED: dict[str, Any] = {"model": "aquila2-demo", "temperature": 0, "max_tokens": 6}


def test_a_text_its_ids_and_several_are_continued_alike(
    client: Any, demo_runtime: Aquila2Runtime
) -> None:
    texts = ["The town of", "从前"]
    ids = [demo_runtime.tokenizer.encode_ordinary(text) for text in texts]
    own = [demo_runtime.complete(text, PARAMS) for text in texts]
    for prompt, expected in ((texts[0], own[:1]), (ids[0], own[:1]), (texts, own), (ids, own)):
        said = client.completions.create(prompt=prompt, **ASKED)
        assert [choice.text for choice in said.choices] == [out.text for out in expected]
        assert [choice.index for choice in said.choices] == list(range(len(expected)))
        assert said.usage.total_tokens == sum(out.usage.total_tokens for out in expected)


def test_answers_of_several_prompts_follow_each_other(client: Any) -> None:
    said = client.completions.create(
        prompt=["a", "b"], n=2, seed=1, **ASKED | {"temperature": 1, "logprobs": 1}
    )
    assert [choice.index for choice in said.choices] == [0, 1, 2, 3]
    for choice in said.choices:
        told = choice.logprobs
        assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset)
        assert all(len(likely) == 1 for likely in told.top_logprobs)
        assert told.text_offset[0] == 0


def test_a_stream_continues_as_a_whole_answer_does(client: Any) -> None:
    whole = client.completions.create(prompt="The town of", **ASKED)
    pieces = list(
        client.completions.create(
            prompt="The town of", stream=True, stream_options={"include_usage": True}, **ASKED
        )
    )
    assert "".join(p.choices[0].text for p in pieces if p.choices) == whole.choices[0].text
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_one_prompt_that_is_refused_is_named_and_none_is_left_running(
    raw: Raw, demo_runtime: Aquila2Runtime
) -> None:
    body = ASKED | {"prompt": ["fine", "x " * 9000], "max_tokens": 500}
    status, _, said = raw("POST", "/v1/completions", body)
    assert (status, said["error"]["code"]) == (400, "context_length_exceeded")
    # What is aborted ends within two steps.
    assert wait_until(lambda: demo_runtime.stats().running == 0)


def test_more_answers_than_may_wait_are_given_in_turns(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of what a body may ask, 128 times 64 answers, half may wait.
    monkeypatch.setattr("aquila2_runtime.engine.torch_engine.MAX_WAITING", 24)
    monkeypatch.setattr("aquila2_runtime.server.app.MAX_IN_FLIGHT", 12, raising=False)
    asked = ASKED | {"prompt": ["从前"] * 32, "n": 3, "max_tokens": 1}
    status, _, said = raw("POST", "/v1/completions", asked)
    assert (status, len(said.get("choices", []))) == (200, 96)


def test_an_adapter_is_asked_for_by_its_name(demo_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tests.adapters import random_adapter

    base = shutil.copytree(demo_path, tmp_path / "base")
    noise = random_adapter(base, tmp_path / "noise", size=0.08)
    with (
        Aquila2Runtime.load(
            str(base), template="aquila-v1", device="cpu", adapters={"noise": noise}
        ) as runtime,
        serving(runtime, ServerSettings(served_name="aquila2-demo")) as port,
    ):
        raw = Raw(port)
        names = [model["id"] for model in raw("GET", "/v1/models")[2]["data"]]
        assert names == ["aquila2-demo", "noise"]
        for name, adapter in (("aquila2-demo", None), ("noise", "noise")):
            _, _, said = raw(
                "POST", "/v1/completions", ASKED | {"model": name, "prompt": "The town of"}
            )
            own = runtime.complete("The town of", PARAMS, adapter=adapter)
            assert (said["model"], said["choices"][0]["text"]) == (name, own.text)


def test_ids_are_told_where_they_are_asked_for(raw: Raw, demo_runtime: Aquila2Runtime) -> None:
    own = demo_runtime.complete("The town of", PARAMS.replace(logprobs=2)).choices[0]
    asked = ASKED | {"prompt": "The town of", "logprobs": 2}
    body = asked | {"return_token_ids": True, "return_tokens_as_token_ids": True}
    status, _, said = raw("POST", "/v1/completions", body)
    assert status == 200
    (choice,) = said["choices"]
    assert choice["token_ids"] == list(own.token_ids)
    assert choice["logprobs"]["tokens"] == [f"token_id:{token_id}" for token_id in own.token_ids]
    assert own.logprobs is not None
    assert choice["logprobs"]["top_logprobs"] == [
        {f"token_id:{token_id}": logprob for token_id, _, logprob in entry.top}
        for entry in own.logprobs
    ]
    plain = raw("POST", "/v1/completions", asked)[2]["choices"][0]
    assert "token_ids" not in plain
    assert plain["logprobs"]["tokens"] == [entry.token for entry in own.logprobs]


@pytest.mark.parametrize(
    ("form", "matches"),
    [
        ({"json": {"type": "object", "properties": {"a": {"type": "null"}}}}, r"\{.*\}"),
        ({"json": True}, r"[^\n]+"),
        ({"json_object": True}, r"\{.*\}?"),
        ({"regex": "[0-9]{4}"}, "[0-9]{4}"),
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"grammar": 'start: "a" "b"'}, "ab"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_continuation_has_the_form_that_was_asked_for(
    raw: Raw, form: dict[str, Any], matches: str
) -> None:
    body = ASKED | {"prompt": "The town of", "max_tokens": 24, "structured_outputs": form}
    status, _, said = raw("POST", "/v1/completions", body)
    assert status == 200
    assert re.fullmatch(matches, said["choices"][0]["text"])


@pytest.mark.parametrize(
    "form",
    [{}, {"json": {}, "regex": "a"}, {"regexp": "a"}, {"choice": []}, {"regex": "("}, {"json": 1},
     {"json_object": False}, {"json_schema": {}}, {"grammar": 'begin: "a"'}],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(raw: Raw, form: dict[str, Any]) -> None:
    status, _, said = raw(
        "POST", "/v1/completions", ASKED | {"prompt": "a", "structured_outputs": form}
    )
    assert status == 400
    assert said["error"]["message"]

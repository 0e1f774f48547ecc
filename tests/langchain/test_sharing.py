"""One set of weights behind copies, batches, named models and cancelled calls."""

from __future__ import annotations

import asyncio
import copy
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime import errors as ours
from langchain_aquila2 import Aquila2LLM, ChatAquila2
from tests.langchain.support import MakeChat

LONG = {"max_tokens": 1500, "ignore_eos": True}


async def idle(runtime: Aquila2Runtime) -> bool:
    """Whether every block comes back within a generous time."""
    until = time.monotonic() + 30
    while runtime.stats().blocks_in_use or runtime.stats().running:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.01)
    return True


async def started(runtime: Aquila2Runtime) -> None:
    until = time.monotonic() + 30
    while not runtime.stats().blocks_in_use:
        if time.monotonic() > until:
            pytest.fail("the request never started")
        await asyncio.sleep(0.01)


async def test_a_cancelled_ainvoke_gives_its_blocks_back(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    before = demo_runtime.stats().decode_rows
    task = asyncio.create_task(make_chat(**LONG).ainvoke("hi"))
    await started(demo_runtime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await idle(demo_runtime)
    assert demo_runtime.stats().decode_rows - before < 1000, "the answer went on to its end"


async def test_a_stream_left_early_gives_its_blocks_back(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime
) -> None:
    before = demo_runtime.stats().decode_rows
    stream = make_chat(**LONG).stream("hi")
    next(stream)
    stream.close()
    assert await idle(demo_runtime)
    assert demo_runtime.stats().decode_rows - before < 1000, "the answer went on to its end"


@pytest.mark.parametrize("way", ["batch", "abatch", "generate"])
async def test_eight_inputs_are_decoded_together(
    make_chat: MakeChat, demo_runtime: Aquila2Runtime, way: str
) -> None:
    chat = make_chat(max_tokens=32, ignore_eos=True).warmup()
    inputs = [f"Question {number}" for number in range(8)]
    before = demo_runtime.stats()
    if way == "batch":
        assert len(chat.batch(inputs)) == 8
    elif way == "abatch":
        assert len(await chat.abatch(inputs)) == 8
    else:
        made = chat.generate([[HumanMessage(one)] for one in inputs])
        assert len(made.generations) == 8
    after = demo_runtime.stats()
    rows = after.decode_rows - before.decode_rows
    assert rows / (after.decode_steps - before.decode_steps) > 2


def test_copies_of_every_kind_share_the_runtime(make_chat: MakeChat) -> None:
    chat = make_chat(max_tokens=2)
    runtime = chat._lease.runtime()
    field = ConfigurableField(id="warmth")
    configured, _ = chat.configurable_fields(temperature=field).prepare(
        {"configurable": {"warmth": 0.5}}
    )
    assert isinstance(configured, ChatAquila2)
    warmer = chat.model_copy(update={"temperature": 0.5})
    assert configured.temperature == warmer.temperature == 0.5
    for other in (
        configured,
        warmer,
        chat.model_copy(),
        chat.model_copy(deep=True),
        copy.deepcopy(chat),
        pickle.loads(pickle.dumps(chat)),
    ):
        assert other._lease.runtime() is runtime
        assert other.invoke("hi").usage_metadata["output_tokens"] == 2


def test_a_copy_with_a_bad_or_another_model_is_checked_like_a_new_one(chat: ChatAquila2) -> None:
    with pytest.raises(ours.InvalidSamplingParamsError):
        chat.model_copy(update={"temperature": 9})
    with pytest.raises(ours.ModelNotFoundError):
        chat.model_copy(update={"model": "./no-such-directory"}).invoke("hi")


def test_a_model_named_in_a_call_is_loaded_once_and_closed_with_its_owner(
    make_chat: MakeChat, demo_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another"
    shutil.copytree(demo_path, other, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    chat = make_chat(max_tokens=1, template="aquila-v1")
    named = [chat.invoke("hi", model=str(other)) for _ in range(2)]
    assert {answer.response_metadata["model_name"] for answer in named} == {"another"}
    [lease] = chat._overrides.values()
    runtime = lease.runtime()
    chat.invoke("hi", model=str(other))
    assert lease.runtime() is runtime
    assert runtime.healthy
    chat.close()
    assert not runtime.healthy
    for keywords in ({}, {"model": str(other)}):
        with pytest.raises(ours.EngineClosedError):
            chat.invoke("hi", **keywords)


@pytest.mark.parametrize("kind", [ChatAquila2, Aquila2LLM])
def test_a_copy_that_is_closed_closes_nobody_else(
    kind: Any, demo_path: Path, tmp_path: Path
) -> None:
    """A plain copy shared its original's claim, and a with block around it closed both."""
    for name in ("one", "two"):
        shutil.copytree(
            demo_path, tmp_path / name, ignore=shutil.ignore_patterns("*.py", "__pycache__")
        )
    own: Any = {"template": "aquila-v1", "device": "cpu", "max_tokens": 1, "temperature": 0}
    model = kind(model=str(tmp_path / "one"), **own).warmup()
    model.invoke("hi", model=str(tmp_path / "two"))
    runtime, [named] = model._lease.runtime(), model._overrides.values()
    other_runtime = named.runtime()
    copies = [model.model_copy(), model.model_copy(deep=True), copy.copy(model)]
    copies.append(copy.deepcopy(model))
    for other in copies:
        assert other._lease.runtime() is runtime
        with other:
            other.invoke("hi")
        with pytest.raises(ours.EngineClosedError):
            other.invoke("hi")
        with pytest.raises(ours.EngineClosedError):
            other.model_copy().invoke("hi")
        model.invoke("hi")
        model.invoke("hi", model=str(tmp_path / "two"))
    last = copy.copy(model)
    model.close()
    last.invoke("hi")
    assert runtime.healthy and other_runtime.healthy
    last.close()
    assert not runtime.healthy and not other_runtime.healthy


def test_a_wrapped_runtime_stays_its_owner_s(demo_runtime: Aquila2Runtime) -> None:
    with ChatAquila2.from_runtime(demo_runtime, max_tokens=2, temperature=0) as chat:
        told = chat.invoke("hi")
    assert told.response_metadata["model_name"] == demo_runtime.info.model
    assert demo_runtime.healthy


@pytest.mark.parametrize(
    "given",
    [
        {"model": "another"},
        {"max_model_len": 128},
        {"template": "aquila-v2"},
        {"quantization": "nf4"},
        {"adapters": {"a": "somewhere"}},
        {"offline": True},
    ],
    ids=str,
)
def test_options_beside_a_loaded_runtime_that_it_has_not_are_refused(
    demo_runtime: Aquila2Runtime, given: dict[str, Any]
) -> None:
    """They were stored, told to caches and profiles, and had no effect."""
    wrapped = ChatAquila2.from_runtime(demo_runtime, max_tokens=2, temperature=0)
    [name] = given
    for make in (
        lambda: ChatAquila2.from_runtime(demo_runtime, **given),
        lambda: Aquila2LLM(runtime=demo_runtime, **given),
        lambda: wrapped.model_copy(update=given),
        lambda: setattr(wrapped, name, given[name]),
    ):
        with pytest.raises(ours.InvalidLoadOptionError, match=name) as caught:
            make()
        assert caught.value.parameter == name
        assert "without runtime=" in str(caught.value)


def test_a_wrapped_runtime_may_be_named_by_what_it_is(demo_runtime: Aquila2Runtime) -> None:
    """As copies and rebuilt models do, which give every field."""
    info = demo_runtime.info
    chat = ChatAquila2(
        runtime=demo_runtime,
        model=info.model,
        device=info.device,
        max_model_len=info.max_model_len,
        template=info.template,
    )
    assert ChatAquila2(runtime=demo_runtime, model="").model == info.model
    field = ConfigurableField(id="warmth")
    configured, _ = chat.configurable_fields(temperature=field).prepare(
        {"configurable": {"warmth": 0.5}}
    )
    assert isinstance(configured, ChatAquila2)
    for other in (configured, chat.model_copy(update={"seed": 1}), copy.deepcopy(chat)):
        assert other._lease.runtime() is demo_runtime

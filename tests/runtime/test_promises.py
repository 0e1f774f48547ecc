"""Promises of the runtime as a whole that its parts are tested for alone elsewhere."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from aquila2_runtime import (
    Aquila2Runtime,
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    GenerationError,
    InsufficientMemoryError,
    Message,
    OutOfMemoryError,
    SamplingParams,
)
from aquila2_runtime import building as building_module
from aquila2_runtime.engine import torch_engine
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from tests.runtime.support import ask, idle, wait_until

SHORT = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
LONG = SamplingParams(temperature=0, max_tokens=1_500, ignore_eos=True)
SECRET = "hf_veryverysecrettoken0123456789"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_request_without_finite_logits_fails_alone(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    """S9: no token is made of it, the others of its batch go on, and so does the engine."""
    sample = Sampler.sample

    def poisoned(self: Sampler, logits: torch.Tensor, rows: Any) -> Any:
        logits = logits.clone()
        for index, row in enumerate(rows):
            if row.params.seed == 77:
                logits[index] = value
        return sample(self, logits, rows)

    solo = demo_runtime.chat(ask(0), SHORT).text
    monkeypatch.setattr(Sampler, "sample", poisoned)
    streams = [demo_runtime.stream_chat(ask(0), SHORT.replace(seed=seed)) for seed in (1, 77, 2)]
    assert "".join(delta.text for delta in streams[0]) == solo
    with pytest.raises(GenerationError, match="finite"):
        list(streams[1])
    assert "".join(delta.text for delta in streams[2]) == solo
    assert demo_runtime.healthy
    assert wait_until(lambda: idle(demo_runtime))


@pytest.mark.parametrize("character", ["😀", "𠮷", "龘"])
def test_a_prompt_that_ends_in_half_a_character_never_shows_in_the_answer(
    demo_runtime: Aquila2Runtime, character: str
) -> None:
    """D5: the answer's text is that of its own ids, whatever bytes the prompt ends in."""
    tokenizer = demo_runtime.tokenizer
    spelled = tokenizer.encode_ordinary("A secret phrase: xyzzy " + character)
    whole = b"".join(map(tokenizer.token_bytes, spelled))
    cut = len(spelled)
    while b"".join(map(tokenizer.token_bytes, spelled[:cut])).decode("utf-8", "ignore").endswith(
        character
    ) or cut == len(spelled):
        cut -= 1
    ids = spelled[:cut]
    assert b"".join(map(tokenizer.token_bytes, ids)) != whole
    deltas = list(demo_runtime.stream_complete(prompt_token_ids=ids, params=SHORT))
    text = "".join(delta.text for delta in deltas)
    made = [token_id for delta in deltas for token_id in delta.token_ids]
    # A model may well repeat the phrase; what it does not say is the rest of the character.
    assert text == tokenizer.decode(made)
    assert not deltas or not deltas[0].text.startswith(character)


def test_loading_and_answering_touch_no_global_random_state(own_demo: dict[str, str]) -> None:
    """S12: nor does a seed come from it."""
    states = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    threads = torch.get_num_threads()
    with Aquila2Runtime.load(**own_demo) as runtime:
        sampled = SamplingParams(temperature=1, max_tokens=4, ignore_eos=True)
        runtime.chat(ask(0), sampled)
        runtime.chat_batch([ask(0), ask(1)], sampled.replace(seed=1, n=2))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])
    assert torch.get_num_threads() == threads


def test_a_full_queue_is_said_at_once_and_is_no_end(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C10: a request of its own is refused with the hint to retry; what waits goes on."""
    monkeypatch.setattr(torch_engine, "MAX_WAITING", 6)
    held = threading.Event()
    run = Runner.run

    def slow(self: Runner, scheduled: Any) -> Any:
        held.wait(30)
        return run(self, scheduled)

    monkeypatch.setattr(Runner, "run", slow)
    streams = []
    with pytest.raises(EngineBusyError) as caught:
        for _ in range(20):
            streams.append(demo_runtime.stream_chat(ask(0), SHORT))
    held.set()
    assert caught.value.retryable
    assert "later" in str(caught.value)
    assert len(streams) >= 6
    texts = {"".join(delta.text for delta in stream) for stream in streams}
    assert len(texts) == 1
    assert demo_runtime.chat(ask(0), SHORT).text in texts


def test_a_load_that_fails_midway_leaves_nothing_and_can_be_tried_again(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C14: whatever fails, in the engine's thread or before it."""
    threads = set(threading.enumerate())
    for name in ("verify_weights", "load_weights", "make_decoder", "make_caches", "TorchEngine"):
        with monkeypatch.context() as patched:

            def broken(*args: Any, **kwargs: Any) -> Any:
                raise MemoryError("not this time")

            patched.setattr(building_module, name, broken)
            with pytest.raises(MemoryError, match="not this time"):
                Aquila2Runtime.load(**own_demo)
        assert wait_until(lambda: set(threading.enumerate()) <= threads)
    with Aquila2Runtime.load(**own_demo) as runtime:
        assert len(runtime.chat(ask(0), SHORT).token_ids) == 8


def test_a_cache_too_small_for_one_request_names_what_would_fit(own_demo: dict[str, str]) -> None:
    """L10: and what it names does fit, at once."""
    with pytest.raises(InsufficientMemoryError, match="max_model_len=") as caught:
        Aquila2Runtime.load(**own_demo, kv_cache_memory="1MiB")
    fits = int(str(caught.value).split("max_model_len=")[1].split()[0])
    assert 0 < fits < 2_048
    small = {**own_demo, "kv_cache_memory": "1MiB", "max_model_len": fits}
    with Aquila2Runtime.load(**small) as runtime:
        assert runtime.info.max_model_len == fits
        assert len(runtime.chat(ask(0), SHORT).token_ids) == 8
    with pytest.raises(InsufficientMemoryError):
        Aquila2Runtime.load(**{**small, "max_model_len": fits + 17})


def test_a_lack_of_memory_is_told_with_its_numbers_and_a_way_out(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C4."""
    run = Runner.run
    failing = [True]

    def lacking(self: Runner, scheduled: Any) -> Any:
        if failing[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(self, scheduled)

    monkeypatch.setattr(Runner, "run", lacking)
    with pytest.raises(OutOfMemoryError) as caught:
        demo_runtime.chat(ask(0), SHORT)
    assert "2.00 GiB" in str(caught.value)
    assert "kv_cache_memory" in str(caught.value)
    assert caught.value.retryable
    failing[0] = False
    assert len(demo_runtime.chat(ask(0), SHORT).token_ids) == 8


async def _drain(deltas: Any) -> None:
    async for _ in deltas:
        pass


DOORS: dict[str, Callable[[Aquila2Runtime], Any]] = {
    "chat": lambda rt: rt.chat(ask(0)),
    "stream_chat": lambda rt: rt.stream_chat(ask(0)),
    "achat": lambda rt: asyncio.run(rt.achat(ask(0))),
    "astream_chat": lambda rt: asyncio.run(_drain(rt.astream_chat(ask(0)))),
    "chat_batch": lambda rt: rt.chat_batch([ask(0)]),
    "achat_batch": lambda rt: asyncio.run(rt.achat_batch([ask(0)])),
    "complete": lambda rt: rt.complete("a"),
    "stream_complete": lambda rt: rt.stream_complete("a"),
    "acomplete": lambda rt: asyncio.run(rt.acomplete("a")),
    "astream_complete": lambda rt: asyncio.run(_drain(rt.astream_complete("a"))),
    "complete_batch": lambda rt: rt.complete_batch(["a"]),
    "acomplete_batch": lambda rt: asyncio.run(rt.acomplete_batch(["a"])),
    "stats": lambda rt: rt.stats(),
}


def test_every_door_of_a_closed_runtime_says_that_it_is_closed(own_demo: dict[str, str]) -> None:
    """C11: what needs no model, counting and looking, still works."""

    async def use() -> Aquila2Runtime:
        async with Aquila2Runtime.load(**own_demo) as runtime:
            await runtime.achat(ask(0), SHORT)
            return runtime

    closed = asyncio.run(use())
    for door in DOORS.values():
        with pytest.raises(EngineClosedError):
            door(closed)
    assert not closed.healthy
    assert closed.count_tokens("a") == 1
    assert "closed" in repr(closed)
    closed.close()
    asyncio.run(closed.aclose())


def test_a_broken_engine_tells_awaiting_readers_and_batches_too(
    own_demo: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C3: whoever waits, by whatever door."""
    runtime = Aquila2Runtime.load(**own_demo)
    asked = threading.Event()

    def lost(self: Runner, scheduled: Any) -> Any:
        asked.wait(30)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async def wait() -> list[Any]:
        waiting = [
            asyncio.create_task(runtime.achat(ask(0), LONG)),
            asyncio.create_task(runtime.achat_batch([ask(1), ask(2)], LONG)),
            asyncio.create_task(_drain(runtime.astream_complete("a", LONG))),
            asyncio.create_task(asyncio.to_thread(runtime.chat_batch, [ask(0)] * 3, LONG)),
        ]
        await asyncio.to_thread(wait_until, lambda: runtime.stats().waiting >= 5)
        asked.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    monkeypatch.setattr(Runner, "run", lost)
    errors = asyncio.run(wait())
    assert [type(error) for error in errors] == [EngineDeadError] * 4
    assert not runtime.healthy
    runtime.close()


def test_logs_hold_no_prompt_and_no_answer(
    own_demo: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C15: at any level, also where a request fails."""
    caplog.set_level(logging.DEBUG)
    with Aquila2Runtime.load(**own_demo) as runtime:
        out = runtime.chat([Message("user", "My code is xyzzy-4711.")], SHORT)
        run = Runner.run

        def broken(self: Runner, scheduled: Any) -> Any:
            raise ValueError("broken kernel")

        with monkeypatch.context() as patched:
            patched.setattr(Runner, "run", broken)
            with pytest.raises(GenerationError):
                runtime.chat([Message("user", "My code is xyzzy-4711.")], SHORT)
        assert run is Runner.run
    assert "xyzzy" not in caplog.text
    assert "4711" not in caplog.text
    assert out.text not in caplog.text


def test_tokens_of_the_environment_appear_nowhere(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """H7: not in what describes a runtime, an adapter or an error."""
    from langchain_core.load import dumps

    from aquila2_runtime import ModelNotFoundError
    from langchain_aquila2 import ChatAquila2
    from llamaindex_aquila2 import Aquila2

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    chat = ChatAquila2(model="aquila2-demo", api_key=SECRET)
    llm = Aquila2("aquila2-demo")
    with pytest.raises(ModelNotFoundError) as caught:
        Aquila2Runtime.load(str(tmp_path / "nowhere"))
    described = (
        repr(demo_runtime), repr(demo_runtime.info), repr(demo_runtime.info.to_dict()),
        repr(chat), dumps(chat), repr(chat._identifying_params), chat._get_llm_string(),
        repr(llm), repr(llm.to_dict()), repr(llm.to_payload()), repr(caught.value),
        repr(vars(caught.value)), repr(chat._get_ls_params()),
    )  # fmt: skip
    assert not [text for text in described if SECRET in text]

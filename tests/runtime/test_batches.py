"""Batches: any length, in order, a bounded number in the engine, and no answer lost to another."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    EngineBusyError,
    FinishReason,
    Message,
    RequestTimeoutError,
    SamplingParams,
)
from aquila2_runtime import batches as batches_module
from aquila2_runtime.engine import torch_engine
from tests.runtime.support import ask, idle, wait_until

SHORT = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
LONG = SamplingParams(temperature=0, max_tokens=1_500, ignore_eos=True)
AT_ONCE = 1e-9


def run(runtime: Aquila2Runtime, form: str, prompts: list[str], *args: Any, **kwargs: Any) -> Any:
    """A batch by any of the four forms."""
    given: list[Any] = [[Message("user", text)] for text in prompts] if "chat" in form else prompts
    made = getattr(runtime, form)(given, *args, **kwargs)
    return asyncio.run(made) if form.startswith("a") else made


FORMS = ("chat_batch", "complete_batch", "achat_batch", "acomplete_batch")


@pytest.mark.parametrize("form", ["complete_batch", "acomplete_batch"])
def test_a_batch_longer_than_the_queue_is_answered_in_order(
    demo_runtime: Aquila2Runtime, form: str
) -> None:
    """C10: more prompts than may wait were once refused with "try again later"."""
    count = torch_engine.MAX_WAITING + 200
    one = SamplingParams(temperature=0, max_tokens=1)
    outputs = run(demo_runtime, form, [f"{number}" for number in range(count)], one)
    told = [demo_runtime.tokenizer.decode(output.prompt_token_ids) for output in outputs]
    assert told == [f"{number}" for number in range(count)]
    assert all(len(output.token_ids) == 1 for output in outputs)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_keeps_a_bounded_number_in_the_engine(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """C10: counted at every submission, n answers each; order and text are kept."""
    monkeypatch.setattr(batches_module, "MAX_IN_FLIGHT", 5)
    engine = demo_runtime._model().engine
    live: set[int] = set()
    most = 0
    submit, retire = type(engine).submit, type(engine)._retire

    def counted_submit(self: Any, request: Any) -> Any:
        nonlocal most
        handle = submit(self, request)
        live.add(handle.request_id)
        most = max(most, len(live))
        return handle

    def counted_retire(self: Any, scheduler: Any, request: Any) -> None:
        retire(self, scheduler, request)
        live.discard(request.request_id)

    monkeypatch.setattr(type(engine), "submit", counted_submit)
    monkeypatch.setattr(type(engine), "_retire", counted_retire)
    params = SamplingParams(temperature=1, seed=5, n=3, max_tokens=3, ignore_eos=True)
    prompts = [f"Question {number}" for number in range(9)]
    outputs = run(demo_runtime, form, prompts, params)
    assert 1 < most <= 5
    alone = [run(demo_runtime, form, [prompt], params)[0] for prompt in prompts]
    assert [[choice.text for choice in output.choices] for output in outputs] == [
        [choice.text for choice in output.choices] for output in alone
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_that_has_begun_waits_while_others_fill_the_queue(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """C10: its finished answers are not thrown away; one that has not begun is told to retry."""
    engine = demo_runtime._model().engine
    submit = type(engine).submit
    calls = 0

    def busy(self: Any, request: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1 or calls % 3:
            return submit(self, request)
        raise EngineBusyError("The queue is full.")

    monkeypatch.setattr(type(engine), "submit", busy)
    outputs = run(demo_runtime, form, [f"Number {number}" for number in range(7)], SHORT)
    assert [len(output.token_ids) for output in outputs] == [4] * 7
    assert calls > 8

    def full(self: Any, request: Any) -> Any:
        raise EngineBusyError("The queue is full.")

    monkeypatch.setattr(type(engine), "submit", full)
    with pytest.raises(EngineBusyError):
        run(demo_runtime, form, ["a", "b"], SHORT)


@pytest.mark.parametrize("form", FORMS)
def test_one_that_times_out_before_its_first_token_takes_no_other_with_it(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """C10: it comes back empty with finish_reason timeout, the finished ones as they are."""
    engine = demo_runtime._model().engine
    submit = type(engine).submit

    def late(self: Any, request: Any) -> Any:
        if request.seed == 77:
            request = dataclasses.replace(request, deadline=0.0)
        return submit(self, request)

    monkeypatch.setattr(type(engine), "submit", late)
    params = [SHORT, SHORT.replace(seed=77), SHORT]
    outputs = run(demo_runtime, form, ["One", "Two", "Three"], params)
    assert [output.finish_reason for output in outputs] == [
        FinishReason.LENGTH,
        FinishReason.TIMEOUT,
        FinishReason.LENGTH,
    ]
    assert [len(output.token_ids) for output in outputs] == [4, 0, 4]
    assert outputs[1].text == ""
    assert outputs[1].timings.first_token is None
    # One of n: seeds are 76, 77, 78.
    [output] = run(demo_runtime, form, ["One"], SHORT.replace(seed=76, n=3))
    assert [choice.finish_reason for choice in output.choices] == [
        FinishReason.LENGTH,
        FinishReason.TIMEOUT,
        FinishReason.LENGTH,
    ]
    assert output.usage.completion_tokens == 8
    assert wait_until(lambda: idle(demo_runtime))


def test_a_batch_of_one_that_times_out_is_a_batch(demo_runtime: Aquila2Runtime) -> None:
    """C10: what a batch does, it does at any length; a lone request raises, at any n."""
    for form in FORMS:
        [output] = run(demo_runtime, form, ["One"], LONG, timeout=AT_ONCE)
        assert output.finish_reason is FinishReason.TIMEOUT
    for params in (LONG, LONG.replace(n=3)):
        with pytest.raises(RequestTimeoutError):
            demo_runtime.chat(ask(0), params, timeout=AT_ONCE)
        with pytest.raises(RequestTimeoutError):
            asyncio.run(demo_runtime.acomplete("One", params, timeout=AT_ONCE))
    with pytest.raises(RequestTimeoutError):
        list(demo_runtime.stream_chat(ask(0), LONG, timeout=AT_ONCE))

    async def read() -> None:
        async for _ in demo_runtime.astream_complete("One", LONG, timeout=AT_ONCE):
            pass

    with pytest.raises(RequestTimeoutError):
        asyncio.run(read())


@pytest.mark.parametrize("form", FORMS)
def test_a_time_limit_of_a_batch_counts_from_the_call(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """C10: those that go in later get no more time than the first."""
    monkeypatch.setattr(batches_module, "MAX_IN_FLIGHT", 2)
    deadlines: set[float] = set()
    engine = demo_runtime._model().engine
    submit = type(engine).submit

    def noted(self: Any, request: Any) -> Any:
        deadlines.add(request.deadline)
        return submit(self, request)

    monkeypatch.setattr(type(engine), "submit", noted)
    run(demo_runtime, form, list("abcdef"), SHORT, timeout=600)
    assert len(deadlines) == 1


def test_leaving_a_batch_aborts_what_is_in_flight_and_starts_no_more(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C1."""
    monkeypatch.setattr(batches_module, "MAX_IN_FLIGHT", 2)

    async def leave() -> None:
        task = asyncio.create_task(demo_runtime.acomplete_batch(["a", "b", "c", "d"], LONG))
        await asyncio.to_thread(wait_until, lambda: demo_runtime.stats().running > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = demo_runtime.stats().decode_rows
    asyncio.run(leave())
    assert wait_until(lambda: idle(demo_runtime))
    assert demo_runtime.stats().decode_rows - before < 2_000


def test_two_long_batches_at_once_share_the_engine(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C6, C10: with room for eight in the queue, three batches of forty get through."""
    monkeypatch.setattr(torch_engine, "MAX_WAITING", 8)
    monkeypatch.setattr(batches_module, "MAX_IN_FLIGHT", 6)
    results: dict[int, list[str]] = {}
    prompts = [f"Number {number}" for number in range(40)]
    alone = [output.text for output in demo_runtime.complete_batch(prompts, SHORT)]

    def work(name: int) -> None:
        form = FORMS[1] if name else FORMS[3]
        while name not in results:
            try:
                results[name] = [output.text for output in run(demo_runtime, form, prompts, SHORT)]
            except EngineBusyError:
                continue  # it had not begun

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {name: alone for name in range(3)}

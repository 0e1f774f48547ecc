"""Long prompts: whoever waits sees how far they are read, and they hold no other answer up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, InvalidRequestError, Message, SamplingParams
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.reading import Reading
from tests.runtime.support import ask, idle, wait_until

LONG = "The ferry to the island leaves at eight, at noon and at six. " * 46
SHORT = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
Reports = list[tuple[str, int, int | None]]


def _long(number: int) -> list[Message]:
    return [Message("user", f"{number}: {LONG}")]


def test_a_long_prompt_is_told_step_by_step_in_the_readers_thread(
    demo_runtime: Aquila2Runtime,
) -> None:
    told: Reports = []
    threads: set[int] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        told.append((stage, done, total))
        threads.add(threading.get_ident())

    length = len(demo_runtime.render(_long(1)))
    assert length > 2 * demo_runtime.info.max_step_tokens
    out = demo_runtime.chat(_long(1), SHORT, progress=progress)
    assert {(stage, total) for stage, _, total in told} == {("prefill", length)}
    done = [count for _, count, _ in told]
    assert done == sorted(set(done))
    assert done[0] < length
    assert done[-1] == length
    assert threads == {threading.get_ident()}
    assert out.token_ids == demo_runtime.chat(_long(1), SHORT).token_ids


@pytest.mark.parametrize("how", ["stream", "async", "batch", "n"])
def test_every_way_of_asking_tells(demo_runtime: Aquila2Runtime, how: str) -> None:
    told: Reports = []

    def progress(*report: Any) -> None:
        told.append(report)

    asked = _long(10 + len(how))
    total = len(demo_runtime.render(asked))
    if how == "stream":
        list(demo_runtime.stream_chat(asked, SHORT, progress=progress))
    elif how == "async":
        asyncio.run(demo_runtime.achat(asked, SHORT, progress=progress))
    elif how == "n":
        demo_runtime.chat(asked, SHORT.replace(n=2, temperature=1.0), progress=progress)
    else:
        demo_runtime.chat_batch([asked, ask(0)], SHORT, progress=progress)
        total += len(demo_runtime.render(ask(0)))
    assert len(told) > 1
    assert told[-1] == ("prefill", total, total)


def test_a_prompt_that_is_read_at_once_tells_nothing(demo_runtime: Aquila2Runtime) -> None:
    told: Reports = []
    demo_runtime.chat(ask(0), SHORT, progress=lambda *report: told.append(report))
    assert told == []


def test_a_report_is_never_taken_back() -> None:
    told: Reports = []
    reading = Reading(lambda *report: told.append(report), [10, 20])
    for index, done in ((0, 4), (1, 5), (0, 2), (0, 10), (1, 20), (1, 20)):
        reading.note(index, done)
    assert [done for _, done, _ in told] == [4, 9, 15, 30]


def test_a_failing_function_fails_its_own_call_alone(demo_runtime: Aquila2Runtime) -> None:
    def broken(*report: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        demo_runtime.chat(_long(30), SHORT, progress=broken)
    # Awaited ones that are computed beside others too: as itself, in no group.
    with pytest.raises(ZeroDivisionError):
        asyncio.run(demo_runtime.achat(_long(31), SHORT.replace(n=2), progress=broken))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(demo_runtime.achat_batch([ask(0), _long(32)], SHORT, progress=broken))
    assert wait_until(lambda: idle(demo_runtime))
    assert len(demo_runtime.chat(ask(0), SHORT).token_ids) == 2
    with pytest.raises(InvalidRequestError, match="progress"):
        demo_runtime.chat(ask(0), SHORT, progress=3)


def test_a_long_prompt_does_not_freeze_a_running_answer(
    demo_runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two tokens of a stream, no more of somebody else's prompt is read than promised."""
    steps: list[tuple[int, int]] = []
    original = Runner.run

    def noted(self: Runner, scheduled: Any) -> Any:
        decodes = [item for item in scheduled if item.start >= item.request.num_prompt]
        read = sum(item.count for item in scheduled if item not in decodes)
        steps.append((len(decodes), read))
        return original(self, scheduled)

    monkeypatch.setattr(Runner, "run", noted)
    stream = demo_runtime.stream_chat(ask(0), SHORT.replace(max_tokens=1_000))
    next(stream)
    demo_runtime.chat(_long(40), SHORT)
    stream.close()
    beside = [read for decodes, read in steps if decodes and read]
    bound = demo_runtime.info.max_prefill_beside_decode
    assert max(beside) <= bound < demo_runtime.info.max_step_tokens
    assert len(beside) >= len(demo_runtime.render(_long(40))) // bound

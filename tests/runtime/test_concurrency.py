"""Many users of one runtime: results equal solo results, work is shared, nothing is left over."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from aquila2_runtime import Aquila2Runtime, RequestOutput, SamplingParams
from tests.runtime.support import ask, idle, wait_until

PARAMS = (
    SamplingParams(temperature=0, max_tokens=24, ignore_eos=True),
    SamplingParams(temperature=0.9, seed=11, max_tokens=16, ignore_eos=True),
    SamplingParams(temperature=1.2, top_p=0.9, seed=12, max_tokens=20),
    SamplingParams(temperature=0.8, top_k=20, min_p=0.02, seed=13, max_tokens=12),
    SamplingParams(temperature=0, max_tokens=30, stop=["。", "."], ignore_eos=True),
)


def _solo(runtime: Aquila2Runtime) -> dict[tuple[int, int], str]:
    return {
        (question, kind): runtime.chat(ask(question), params).text
        for question in range(8)
        for kind, params in enumerate(PARAMS)
    }


def _one(runtime: Aquila2Runtime, question: int, kind: int, mode: int) -> str | None:
    """One request in one of five modes; None when it was abandoned half way."""
    messages, params = ask(question), PARAMS[kind]
    if mode == 0:
        return runtime.chat(messages, params).text
    if mode == 1:
        return "".join(delta.text for delta in runtime.stream_chat(messages, params))
    if mode == 2:
        return asyncio.run(_awhole(runtime, question, kind))
    if mode == 3:
        return asyncio.run(_astream(runtime, question, kind))
    stream = runtime.stream_chat(messages, params)
    next(stream, None)
    stream.close()
    return None


async def _awhole(runtime: Aquila2Runtime, question: int, kind: int) -> str:
    return (await runtime.achat(ask(question), PARAMS[kind])).text


async def _astream(runtime: Aquila2Runtime, question: int, kind: int) -> str:
    return "".join([d.text async for d in runtime.astream_chat(ask(question), PARAMS[kind])])


def _hammer(runtime: Aquila2Runtime, threads: int, seconds: float) -> int:
    """Mixed use from many threads; the number of requests answered."""
    expected = _solo(runtime)
    wrong: list[str] = []
    answered = [0] * threads
    until = time.monotonic() + seconds

    def work(number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < until and not wrong:
            question, kind, mode = rng.randrange(8), rng.randrange(len(PARAMS)), rng.randrange(5)
            try:
                text = _one(runtime, question, kind, mode)
            except BaseException as error:
                wrong.append(f"{question}/{kind}/{mode}: {error!r}")
                raise
            if text is not None and text != expected[question, kind]:
                wrong.append(f"{question}/{kind}/{mode}: {text!r} != {expected[question, kind]!r}")
            answered[number] += 1

    before = runtime.stats()
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 60)
    assert not any(worker.is_alive() for worker in workers)
    assert wrong == []
    after = runtime.stats()
    steps = after.decode_steps - before.decode_steps
    mean = (after.decode_rows - before.decode_rows) / steps
    print(f"{sum(answered)} requests, {steps} decode steps, mean batch {mean:.1f}")
    # Counted on the device: a lock around the model would make it 1.
    assert mean > 4
    assert wait_until(lambda: idle(runtime))
    return sum(answered)


def test_mixed_use_from_many_threads_equals_solo_results(demo_runtime: Aquila2Runtime) -> None:
    """C6: 64 threads, whole, streamed, async and abandoned; texts equal solo, counters return."""
    assert _hammer(demo_runtime, threads=64, seconds=6) > 64


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mixed_use_for_a_minute(demo_runtime: Aquila2Runtime) -> None:
    """C6, C13: the same for 60 seconds."""
    assert _hammer(demo_runtime, threads=64, seconds=60) > 640


def test_a_batch_equals_its_members_alone(demo_runtime: Aquila2Runtime) -> None:
    """C7, S12: one batch of every question and kind, each equal to its solo answer."""
    expected = _solo(demo_runtime)
    keys = sorted(expected)
    outputs = demo_runtime.chat_batch(
        [ask(question) for question, _ in keys], [PARAMS[kind] for _, kind in keys]
    )
    assert [output.text for output in outputs] == [expected[key] for key in keys]


def test_the_event_loop_goes_on_while_answers_are_made(demo_runtime: Aquila2Runtime) -> None:
    """C8: a heartbeat beats on beside eight answers."""

    async def run() -> tuple[int, list[RequestOutput]]:
        beats = 0
        params = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        heart = asyncio.create_task(beat())
        tasks = [demo_runtime.achat(ask(index), params) for index in range(8)]
        outputs = await asyncio.gather(*tasks)
        heart.cancel()
        return beats, list(outputs)

    beats, outputs = asyncio.run(run())
    assert all(len(output.token_ids) == 200 for output in outputs)
    # A loop blocked by the forward passes would get in one beat per answer at best.
    assert beats > 40


def test_answers_can_be_read_from_several_event_loops_at_once(
    demo_runtime: Aquila2Runtime,
) -> None:
    expected = demo_runtime.chat(ask(0), PARAMS[0]).text
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(asyncio.run(_astream(demo_runtime, 0, 0))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 3

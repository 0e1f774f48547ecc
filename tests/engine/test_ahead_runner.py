"""Decoding one step ahead gives the plain runner's answers, whatever happens meanwhile."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.device_rows import DeviceRows, Entry
from aquila2_runtime.engine.sample_row import SampleRow
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.static_step import StaticStep, bucket_sizes
from aquila2_runtime.errors import OutOfMemoryError
from aquila2_runtime.outputs import FinishReason
from aquila2_runtime.sampling import SamplingParams
from tests.engine.engines import (
    BLOCK_SIZE,
    MAX_LEN,
    POSITIONS,
    CountingAttention,
    Model,
    make_engine,
    make_model,
    mixed_requests,
    read,
    request,
    serve,
)
from tests.fixtures_checkpoint import VOCAB_SIZE

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("gap", [0.0, 0.004])
@pytest.mark.parametrize("seed", [1, 2])
def test_mixed_requests_get_the_plain_runners_answers(model: Model, seed: int, gap: float) -> None:
    """Greedy, drawn and filtered rows beside those that cannot be served statically."""
    requests = mixed_requests(24, seed)
    right = serve(make_engine(model, ahead=False), requests)
    found = serve(make_engine(model, ahead=True), requests, gap=gap)
    assert found == right
    assert {finished.reason for _, finished in found} == {FinishReason.STOP, FinishReason.LENGTH}


def test_preempted_requests_get_the_plain_runners_answers(model: Model) -> None:
    """A pool in which two of the requests fit, not six; shared prefixes among them."""
    shared = list(range(1, 18))
    requests = [
        request([*shared, 30 + number], SamplingParams(temperature=0.8, top_p=0.9),
                max_tokens=40, seed=number, stops=())
        for number in range(6)
    ]  # fmt: skip
    requests += mixed_requests(8, 5)
    right = serve(make_engine(model, ahead=False), requests)
    engine = make_engine(model, ahead=True, blocks=32)
    handles = [engine.submit(entry) for entry in requests]
    assert [read(handle) for handle in handles] == right
    assert engine.stats().preemptions > 0
    assert engine.stats().blocks_in_use == 0
    engine.close()


def test_speculation_and_decoding_ahead_agree(model: Model) -> None:
    """A request that brings drafts runs plainly in that step, and ahead in others."""
    loop = [7, 8, 9, 10] * 6
    requests = [request(loop, GREEDY, max_tokens=60, stops=()), *mixed_requests(3, 9)]
    right = serve(make_engine(model, ahead=False), requests)
    assert serve(make_engine(model, ahead=True, speculate=True), requests) == right


@pytest.mark.parametrize("worth", [1, 10**15])
def test_requests_of_one_document_leave_the_static_step_where_that_pays(
    model: Model, worth: int
) -> None:
    """Two that share 300 tokens read them once, or go on as everybody else."""
    seen: list[CountingAttention] = []

    def counting(cache: PagedKVCache) -> CountingAttention:
        seen.append(CountingAttention(cache))
        return seen[-1]

    document = [number % 300 + 1 for number in range(500)]
    requests = [request(document, GREEDY, max_tokens=3, stops=())]
    requests += [
        request([*document, 7 + number], GREEDY, max_tokens=12, stops=()) for number in range(4)
    ]
    right = serve(make_engine(model, ahead=False, blocks=900), requests)
    options = {
        "blocks": 900,
        "attention": counting,
        "worth": worth,
        "step_tokens": 600,
        "max_len": POSITIONS,
    }
    found = serve(make_engine(model, ahead=True, **options), requests)  # type: ignore[arg-type]
    assert found == right
    assert (seen[-1].shared > 0) is (worth == 1)


def test_a_length_wastes_no_step_and_a_stop_wastes_one_row(model: Model) -> None:
    """The device computes ahead only what is not surely the end."""
    seen: list[CountingAttention] = []

    def counting(cache: PagedKVCache) -> CountingAttention:
        seen.append(CountingAttention(cache))
        return seen[-1]

    prompt = [3, 4, 5]
    ids, _ = serve(
        make_engine(model, ahead=True, attention=counting),
        [request(prompt, max_tokens=9, stops=())],
    )[0]
    # The prompt, then a step of one row for every id but the first.
    assert seen[-1].rows == [3, *[1] * 8]
    stop = next(token for at, token in enumerate(ids) if at > 2 and token not in ids[:at])
    engine = make_engine(model, ahead=True, attention=counting)
    stopped, finished = serve(engine, [request(prompt, max_tokens=9, stops=[stop])])[0]
    assert finished.reason is FinishReason.STOP
    assert stopped == ids[: ids.index(stop) + 1]
    assert seen[-1].rows == [3, *[1] * len(stopped)]


class AbortingAttention(CountingAttention):
    """Aborts a request in the middle of its tenth step."""

    abort = staticmethod(lambda: None)

    def attend(self, layer, query, key, value, plan):  # type: ignore[no-untyped-def]
        if layer == 0 and len(self.rows) == 10:
            self.abort()
        return super().attend(layer, query, key, value, plan)


def test_an_abort_takes_two_steps_at_most(model: Model) -> None:
    seen: list[AbortingAttention] = []

    def aborting(cache: PagedKVCache) -> AbortingAttention:
        seen.append(AbortingAttention(cache))
        return seen[-1]

    engine = make_engine(model, ahead=True, attention=aborting)
    ready = threading.Event()
    engine.call_soon(lambda: ready.wait(10.0) and None)
    handle = engine.submit(request([3, 9], GREEDY, max_tokens=100, stops=()))
    seen[0].abort = lambda: engine.abort(handle.request_id)  # type: ignore[method-assign]
    ready.set()
    ids, finished = read(handle)
    assert finished.reason is FinishReason.ABORT
    assert len(seen[0].rows) <= 10 + 1 + 2
    assert 8 <= len(ids) <= 12
    engine.close()


def test_an_abort_disturbs_nobody(model: Model) -> None:
    """Three long answers; the middle one is aborted as soon as it has begun."""
    requests = [request([number + 3, 9], GREEDY, max_tokens=100, stops=()) for number in range(3)]
    right = serve(make_engine(model, ahead=False), requests)
    engine = make_engine(model, ahead=True)
    handles = [engine.submit(entry) for entry in requests]
    begun = handles[1].read().token_ids
    handles[1].abort()
    rest, finished = read(handles[1])
    assert finished.reason is FinishReason.ABORT
    assert begun + rest == right[1][0][: len(begun + rest)]
    assert [read(handles[0]), read(handles[2])] == [right[0], right[2]]
    engine.close()


class SlowAttention(GatheredAttention):
    """Takes a few milliseconds a step."""

    def attend(self, layer, query, key, value, plan):  # type: ignore[no-untyped-def]
        if layer == 0:
            time.sleep(0.005)
        return super().attend(layer, query, key, value, plan)


def test_a_deadline_ends_an_answer_with_what_there_is(model: Model) -> None:
    whole = request([5, 6], GREEDY, max_tokens=120, stops=())
    right, _ = serve(make_engine(model, ahead=False), [whole])[0]
    engine = make_engine(model, ahead=True, attention=SlowAttention)
    late = request([5, 6], GREEDY, max_tokens=120, stops=(), deadline=time.monotonic() + 0.1)
    found, finished = serve(engine, [late])[0]
    assert finished.reason is FinishReason.TIMEOUT
    assert found == right[: len(found)]


class FullDevice(GatheredAttention):
    """Runs out of memory on prompts of a certain length, and on nothing else."""

    def attend(self, layer, query, key, value, plan):  # type: ignore[no-untyped-def]
        if any(segment.context == 37 for segment in plan.prefills):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().attend(layer, query, key, value, plan)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_full_device_fails_the_request_that_filled_it_and_no_other(
    model: Model, ahead: bool
) -> None:
    """With figures and advice; while others are half way, a step ahead."""
    others = mixed_requests(10, 3)
    right = serve(make_engine(model, ahead=False), others)
    engine = make_engine(model, ahead=ahead, attention=FullDevice, step_tokens=64)
    handles = [engine.submit(entry) for entry in others[:5]]
    handles[0].read()
    large = engine.submit(request(list(range(1, 38)), GREEDY))
    handles += [engine.submit(entry) for entry in others[5:]]
    with pytest.raises(OutOfMemoryError, match=r"2\.00 GiB") as caught:
        read(large)
    assert "37 tokens" in str(caught.value)
    assert "max_model_len" in str(caught.value)
    first, finished = read(handles[0])
    assert finished == right[0][1]
    assert right[0][0][-len(first) :] == first or first == []
    assert [read(handle) for handle in handles[1:]] == right[1:]
    engine.close()


def test_rows_of_a_padded_bucket_equal_each_alone(model: Model) -> None:
    """Three rows in a bucket of four, each with its own blocks; padding changes nothing."""
    found = []
    for groups in ([[0, 1, 2]], [[0], [1], [2]]):
        cache = PagedKVCache(
            num_layers=model.config.num_layers, num_blocks=8, block_size=BLOCK_SIZE,
            num_kv_heads=model.config.num_kv_heads, head_dim=model.config.head_dim,
            dtype=torch.float32, device=torch.device("cpu"),
        )  # fmt: skip
        rows = DeviceRows(places=5, width=MAX_LEN // BLOCK_SIZE, n_ids=VOCAB_SIZE,
                          device=torch.device("cpu"))  # fmt: skip
        step = StaticStep(model.decoder, GatheredAttention(cache), rows, VOCAB_SIZE, capture=False)
        params = (GREEDY, SamplingParams(temperature=1.0), SamplingParams(top_p=0.9))
        rows.enter(
            [
                Entry(place, 11 + place, 0, SampleRow.create(entry, place, ()), (2 * place + 1,))
                for place, entry in enumerate(params)
            ]
        )
        rows.add_blocks([(place, 1, 2 * place + 2) for place in range(3)])
        ids: list[list[int]] = [[], [], []]
        for _ in range(2 * BLOCK_SIZE):
            for group in groups:
                chosen = step.run(group, drawn=True).tolist()
                for place, token_id in zip(group, chosen, strict=True):
                    ids[place].append(token_id)
        found.append(ids)
    assert found[0] == found[1]


@pytest.mark.parametrize("drawn", [False, True])
def test_nothing_in_a_step_asks_the_host_about_data(model: Model, drawn: bool) -> None:
    """What reads a number back cannot be captured: with tensors that hold none it would raise."""
    cache = PagedKVCache(
        num_layers=model.config.num_layers, num_blocks=8, block_size=BLOCK_SIZE,
        num_kv_heads=model.config.num_kv_heads, head_dim=model.config.head_dim,
        dtype=torch.int8, device=torch.device("cpu"),
    )  # fmt: skip
    rows = DeviceRows(places=4, width=4, n_ids=VOCAB_SIZE, device=torch.device("cpu"))
    step = StaticStep(model.decoder, GatheredAttention(cache), rows, VOCAB_SIZE, capture=False)
    logits = torch.zeros(1, VOCAB_SIZE)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        step._step(step._buckets[4, drawn], drawn)
        row = SampleRow.create(GREEDY, 1, ())
        with pytest.raises(DataDependentOutputException):
            Sampler(VOCAB_SIZE, VOCAB_SIZE).sample(fake.from_tensor(logits), [row])


def test_buckets_hold_every_batch_with_little_padding() -> None:
    assert bucket_sizes(1) == (1,)
    assert bucket_sizes(5) == (1, 2, 4, 8)
    assert bucket_sizes(64)[-1] == 64
    assert bucket_sizes(100)[-2:] == (96, 128)
    for most in (1, 7, 33, 64, 65, 200):
        assert bucket_sizes(most)[-1] >= most

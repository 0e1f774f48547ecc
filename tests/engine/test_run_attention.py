"""RunAttention: what the reference computes, and the same for a row in any company."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.cpu import RunAttention
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.attention.runs import runs_of
from tests.engine.caches import filled_cache

SIZE, DIM = 16, 32
# A run, its continuation elsewhere, and blocks in no order at all.
WHOLE, SPLIT = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15, 20, 21, 22, 23, 24, 25, 26]
# What prompts are multiplied in.
TYPES = [torch.float32, torch.bfloat16]
STREWN = [60, 30, 58, 32, 56, 34, 54, 36, 52, 38, 50, 40]


def _cache(kv_heads: int) -> PagedKVCache:
    return filled_cache(kv_heads=kv_heads, dim=DIM, size=SIZE)


def _plan(
    decodes: Sequence[tuple[list[int], int]], prefills: Sequence[tuple[list[int], int, int]]
) -> AttentionPlan:
    """Decoding rows (blocks, tokens seen) and chunks (blocks, rows, tokens seen)."""
    slots = [blocks[(seen - 1) // SIZE] * SIZE + (seen - 1) % SIZE for blocks, seen in decodes]
    segments, row = [], len(decodes)
    for blocks, count, seen in prefills:
        places = range(seen - count, seen)
        slots += [blocks[place // SIZE] * SIZE + place % SIZE for place in places]
        table = torch.tensor(blocks[: -(-seen // SIZE)])
        segments.append(PrefillSegment(row, count, seen, table))
        row += count
    width = max((-(-seen // SIZE) for _, seen in decodes), default=0)
    lengths = torch.tensor([seen for _, seen in decodes], dtype=torch.int32)
    mask = torch.zeros(len(decodes), width * SIZE)
    mask.masked_fill_(torch.arange(width * SIZE) >= lengths[:, None], float("-inf"))
    tables = torch.tensor([(blocks + [0] * width)[:width] for blocks, _ in decodes])
    return AttentionPlan(
        torch.tensor(slots),
        len(decodes),
        tables if decodes else None,
        mask if decodes else None,
        tuple(segments),
        lengths if decodes else None,
    )


def _states(rows: int, heads: int, kv_heads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(rows, n, DIM, generator=generator) for n in (heads, kv_heads, kv_heads)]


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(
    ("decodes", "prefills"),
    [
        ([(WHOLE, 5)], []),
        ([(WHOLE, 180), (SPLIT, 150), (STREWN, 190)], []),
        ([], [(WHOLE, 40, 40), (SPLIT, 30, 130)]),
        ([(SPLIT, 60)], [(STREWN, 20, 170), (WHOLE, 3, 100)]),
    ],
    ids=["one token after a few", "long and scattered", "chunks of prompts", "both"],
)
def test_it_computes_what_the_reference_computes(
    heads: int,
    kv_heads: int,
    decodes: list[tuple[list[int], int]],
    prefills: list[tuple[list[int], int, int]],
) -> None:
    plan = _plan(decodes, prefills)
    states = _states(len(plan.slots), heads, kv_heads)
    found = RunAttention(_cache(kv_heads)).attend(0, *states, plan)
    wanted = GatheredAttention(_cache(kv_heads)).attend(0, *states, plan)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_a_prompt_is_off_by_that_type_s_rounding() -> None:
    states = _states(150, 6, 2)
    plan = _plan([], [(STREWN, 150, 190)])
    found = RunAttention(_cache(2), torch.bfloat16).attend(0, *states, plan)
    wanted = GatheredAttention(_cache(2)).attend(0, *states, plan)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.01)
    assert not torch.equal(found, RunAttention(_cache(2)).attend(0, *states, plan))


def test_a_row_is_the_same_alone_and_in_company() -> None:
    requests = [(WHOLE, 180), (SPLIT, 150), (STREWN, 190), ([61, 62], 20), ([63, 59], 31)]
    together = _plan(requests, [(list(range(41, 49)), 9, 100)])
    query, key, value = _states(len(together.slots), 4, 4)
    among = RunAttention(_cache(4)).attend(0, query, key, value, together)
    for row, request in enumerate(requests):
        alone = _plan([request], [])
        own = [states[row : row + 1] for states in (query, key, value)]
        found = RunAttention(_cache(4)).attend(0, *own, alone)
        assert torch.equal(found[0], among[row])


def test_a_token_is_the_same_decoded_and_as_the_end_of_a_chunk() -> None:
    """To rounding: torch multiplies one row by another kernel than several."""
    query, key, value = _states(7, 4, 4)
    cache = _cache(4)
    chunk = RunAttention(cache).attend(0, query, key, value, _plan([], [(WHOLE, 7, 150)]))
    last = [states[-1:] for states in (query, key, value)]
    alone = RunAttention(cache).attend(0, *last, _plan([(WHOLE, 150)], []))
    torch.testing.assert_close(alone[0], chunk[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cuts", [[32], [1], [64, 128], [63, 65, 100], [7, 14, 15, 120, 149]])
@pytest.mark.parametrize("table", [WHOLE, STREWN], ids=["in line", "strewn"])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_prompt_is_the_same_however_it_is_cut(
    cuts: list[int], table: list[int], dtype: torch.dtype
) -> None:
    states = _states(150, 4, 4)
    whole = RunAttention(_cache(4), dtype).attend(0, *states, _plan([], [(table, 150, 150)]))
    attention = RunAttention(_cache(4), dtype)
    pieces = []
    for first, last in itertools.pairwise([0, *cuts, 150]):
        own = [part[first:last] for part in states]
        pieces.append(attention.attend(0, *own, _plan([], [(table, last - first, last)])))
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_longer_prompt_begins_as_the_shorter_one(dtype: torch.dtype) -> None:
    states = _states(150, 4, 4)
    longer = RunAttention(_cache(4), dtype).attend(0, *states, _plan([], [(WHOLE, 150, 150)]))
    own = [part[:90] for part in states]
    shorter = RunAttention(_cache(4), dtype).attend(0, *own, _plan([], [(WHOLE, 90, 90)]))
    assert torch.equal(longer[:90], shorter)


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_that_are_not_a_request_s_own_do_not_reach_it(dtype: torch.dtype) -> None:
    """Another request's may not be finite, and 0 * NaN is NaN."""
    cache = _cache(4)
    kept = [1, 2, 3, 4, 5, 6, 13, 14]
    other = torch.ones(cache.keys[0].shape[1], dtype=torch.bool)
    other[kept] = False
    for stored in (cache.keys[0], cache.values[0]):
        stored[:, other] = float("nan")
        stored[:, 6, 11:] = stored[:, 14, 3:] = float("nan")  # behind their ends
    plan = _plan([([13, 14], 19)], [([1, 2, 3, 4, 5, 6], 3, 91)])
    found = RunAttention(cache, dtype).attend(0, *_states(4, 4, 4), plan)
    assert found.isfinite().all()


def test_nor_do_they_in_the_reference() -> None:
    cache = _cache(4)
    for stored in (cache.keys[0], cache.values[0]):
        stored[:, 14, 3:] = float("nan")  # behind the end
        stored[:, 0] = float("nan")  # what fills the shorter table
    plan = _plan([([13, 14], 19), ([1, 2, 3], 48)], [])
    assert GatheredAttention(cache).attend(0, *_states(2, 4, 4), plan).isfinite().all()


def test_torch_s_notice_is_kept_from_users_without_touching_their_filters() -> None:
    """Filters are all threads' own: put back by one, they undo what another set meanwhile."""
    script = (
        "import threading, warnings, torch\n"
        "from aquila2_runtime.engine.attention import gathering\n"
        "inside, go_on = threading.Event(), threading.Event()\n"
        "real = torch.sparse.sampled_addmm\n"
        "def slow(*args, **kwargs):\n"
        "    inside.set()\n"
        "    go_on.wait()\n"
        "    return real(*args, **kwargs)\n"
        "torch.sparse.sampled_addmm = slow\n"
        "loading = threading.Thread(target=gathering.obstacle)\n"
        "loading.start()\n"
        "inside.wait()\n"
        "warnings.filterwarnings('ignore', 'mine')\n"
        "go_on.set()\n"
        "loading.join()\n"
        "warnings.warn('mine')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_load_leaves_no_workers_behind_in_the_thread_that_asked_for_it(demo_path: Path) -> None:
    """OpenMP keeps them for a thread's life; more of them than cores slow the engine's down."""
    script = (
        "import os, sys\n"
        "import torch\n"
        "from aquila2_runtime import Aquila2Runtime, SamplingParams\n"
        "def threads():\n"
        "    return len(os.listdir('/proc/self/task'))\n"
        "before = threads()\n"
        "runtime = Aquila2Runtime.load(sys.argv[1], device='cpu', template='aquila-v1')\n"
        "runtime.complete('Once', SamplingParams(max_tokens=4))\n"
        "print(threads() - before)\n"
        "runtime.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(demo_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )
    # The engine's own, and one worker of its.
    assert done.stdout.split() == ["2"], done.stderr


def test_a_row_that_is_not_finite_leaves_the_others_alone() -> None:
    requests = [(WHOLE, 180), (SPLIT, 150)]
    query, key, value = _states(2, 4, 4)
    query[0] = float("nan")
    attention, plan = RunAttention(_cache(4)), _plan(requests, [])
    for _ in range(2):  # as layers do, over what the layer before left in the step's tensors
        found = attention.attend(0, query, key, value, plan)
        assert found[0].isnan().all()
        assert found[1].isfinite().all()


def test_consecutive_blocks_make_one_run() -> None:
    assert runs_of([4, 5, 6], 16, 40) == [(64, 40)]
    assert runs_of([4, 5, 9, 10, 2], 16, 66) == [(64, 32), (144, 32), (32, 2)]
    assert runs_of([4, 5, 9], 16, 17) == [(64, 17)]
    assert runs_of([7], 16, 1) == [(112, 1)]

"""In bfloat16 too, where rounding is coarse, an answer is the one it has alone."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, RequestOutput, SamplingParams
from aquila2_runtime import placement as placements
from aquila2_runtime.engine.linear import packing_of

pytestmark = pytest.mark.skipif(
    packing_of(torch.bfloat16) is not None, reason="this CPU has no bfloat16 products"
)
PARAMS = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, logprobs=0)


@pytest.fixture
def copy(demo_path: Path, tmp_path: Path) -> Path:
    """Weights of its own: those of one folder are loaded once, with one set of options."""
    return Path(shutil.copytree(demo_path, tmp_path / "copy"))


def _prompts() -> list[tuple[int, ...]]:
    """Of any length, some the beginning of another; one a token longer than whole blocks are."""
    rng = random.Random(3)
    prompts = [
        tuple(rng.randrange(300, 4_000) for _ in range(length))
        for length in (1, 17, 64, 65, 129, 150, 290, 411)
    ]
    return [*prompts, prompts[-1][:209], prompts[-1][:400] + prompts[2]]


def _numbers(output: RequestOutput) -> list[tuple[int, float]]:
    assert output.logprobs is not None
    return [(entry.token_id, entry.logprob) for entry in output.logprobs]


def _load(path: Path, *, prefix_cache: bool) -> Aquila2Runtime:
    return Aquila2Runtime.load(
        str(path),
        device="cpu",
        dtype="bfloat16",
        kv_cache_memory="64MiB",
        prefix_cache=prefix_cache,
        template="aquila-v1",
    )


async def _together(runtime: Aquila2Runtime) -> list[RequestOutput]:
    return await asyncio.gather(
        *(runtime.acomplete(prompt_token_ids=ids, params=PARAMS) for ids in _prompts())
    )


@pytest.mark.parametrize("prefix_cache", [True, False], ids=["cache", "no cache"])
def test_a_batch_gives_the_very_numbers_that_its_members_get_alone(
    copy: Path, prefix_cache: bool
) -> None:
    with _load(copy, prefix_cache=prefix_cache) as runtime:
        together = list(map(_numbers, asyncio.run(_together(runtime))))
        alone = [
            _numbers(runtime.complete(prompt_token_ids=ids, params=PARAMS)) for ids in _prompts()
        ]
        assert len({tuple(numbers) for numbers in alone}) == len(alone)
        assert together == alone
        # Again, over what is in the cache by now.
        assert list(map(_numbers, asyncio.run(_together(runtime)))) == alone


def test_so_does_a_prompt_read_in_other_pieces(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for tokens in (512, 100, 7):
        monkeypatch.setattr(placements, "_CPU_STEP_TOKENS", tokens)
        with _load(copy, prefix_cache=False) as runtime:
            asked = [
                runtime.complete(prompt_token_ids=ids, params=PARAMS) for ids in _prompts()[4:7]
            ]
            found.append(list(map(_numbers, asked)))
    assert found[1:] == found[:1] * 2

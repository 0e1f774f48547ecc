"""The random mixes again, decoded one step ahead: the CUDA runner's control flow, on CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from aquila2_runtime import Aquila2Runtime, loading
from aquila2_runtime.engine.ahead_runner import AheadRunner
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.select import make_attention
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.placement import Placement
from tests.runtime.test_random_mixes import _mix, alone, checkpoint

__all__ = ["alone", "checkpoint"]  # fixtures


def decode_ahead(monkeypatch: pytest.MonkeyPatch, *, worth: int) -> list[AheadRunner]:
    """Have loads on CPU decode ahead; the steps run as they are in place of captured ones."""
    made: list[AheadRunner] = []

    def make_runner(
        decoder: Decoder, cache: PagedKVCache, sampler: Sampler, placement: Placement
    ) -> AheadRunner:
        held = (cache.keys[0].shape[1] - 1) * cache.block_size
        made.append(
            AheadRunner(
                decoder,
                make_attention(placement.attention, cache, placement.dtype),
                sampler,
                max_num_seqs=placement.max_num_seqs,
                max_model_len=min(decoder.config.max_position, held),
                n_ids=sampler.n_decodable,
                capture=False,
                worth=worth,
            )
        )
        return made[-1]

    monkeypatch.setattr(loading, "make_runner", make_runner)
    return made


@pytest.mark.parametrize(("seed", "worth"), [(11, 1), (12, 2**40), (13, 2**40), (14, 2**40)])
def test_every_answer_of_a_mix_decoded_ahead_is_the_one_it_has_alone(
    seed: int,
    worth: int,
    checkpoint: Path,
    alone: Aquila2Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = decode_ahead(monkeypatch, worth=worth)
    _mix(seed, checkpoint, alone, monkeypatch)
    assert len(made) == 1


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_every_answer_of_many_mixes_decoded_ahead_is_the_one_it_has_alone(
    checkpoint: Path, alone: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2_000, 2_060):
        decode_ahead(monkeypatch, worth=1 if seed % 3 == 0 else 2**40)
        _mix(seed, checkpoint, alone, monkeypatch)

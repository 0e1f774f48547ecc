"""Our decoder against the reference implementation's own logits and greedy ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.base import EngineRequest
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.handle import Mailbox
from aquila2_runtime.engine.request import Request
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.scheduler import Scheduled

NAMES = ("mha", "gqa_linear4", "linear8")


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest, shared_data: Path) -> Path:
    return shared_data / "goldens" / "reference-model" / str(request.param)


def _logits(path: Path, ids: Sequence[int], chunks: Sequence[int]) -> torch.Tensor:
    """Logits of every position, computed in chunks of these sizes."""
    config = read_config(path)
    model = load_weights(path, config, dtype=torch.float32, device=torch.device("cpu"))
    decoder = Decoder(model, config, config.max_position)
    size = 16
    blocks = -(-len(ids) // size)
    cache = PagedKVCache(
        num_layers=config.num_layers,
        num_blocks=blocks + 3,
        block_size=size,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    spec = EngineRequest(
        prompt_token_ids=tuple(int(token_id) for token_id in ids),
        params=SamplingParams(),
        max_tokens=1,
        seed=0,
        stop_ids=frozenset(),
        eos_token_id=config.eos_token_id,
    )
    request = Request(1, spec, Mailbox(quiet=True))
    request.blocks = list(range(blocks + 3, 3, -1))  # any order, anywhere in the pool
    attention = GatheredAttention(cache)
    runner = Runner(decoder, attention, Sampler(config.vocab_size, config.vocab_size))
    rows: list[torch.Tensor] = []
    start = 0
    for count in chunks:
        item = Scheduled(request, start, count)
        positions = list(range(start, start + count))
        hidden = decoder.forward(
            torch.tensor(request.token_ids[start : start + count]),
            torch.tensor(positions),
            attention,
            runner.planner.plan([item]),
        )
        rows.append(decoder.logits(hidden))
        start += count
    return torch.cat(rows)


def test_logits_equal_the_references_past_max_position_embeddings_too(golden: Path) -> None:
    """R1: fp32 logits within 1e-4 of the reference, argmax equal, however they are computed."""
    expected = np.load(golden / "expected.npz")
    lengths = [int(name.removeprefix("ids_")) for name in expected if name.startswith("ids_")]
    assert max(lengths) >= 128
    for length in lengths:
        ids = expected[f"ids_{length}"].tolist()
        want = torch.from_numpy(expected[f"logits_{length}"])
        one_by_one = [length // 2, *[1] * (length - length // 2)]
        for chunks in ([length], [length // 3, length - length // 3], one_by_one):
            got = _logits(golden, ids, chunks)[-want.shape[0] :]
            difference = (got - want).abs().max().item()
            assert difference <= 1e-4, f"{length} tokens in {len(chunks)} chunks: {difference}"
            assert torch.equal(got.argmax(-1), want.argmax(-1))


def test_greedy_ids_equal_the_references(golden: Path) -> None:
    """R3: the whole runtime continues a prompt with the reference's own ids."""
    expected = np.load(golden / "expected.npz")
    prompt, full = expected["gen_prompt"].tolist(), expected["gen_out"].tolist()
    continuation = full[len(prompt) :] if full[: len(prompt)] == prompt else full
    params = SamplingParams(temperature=0, max_tokens=len(continuation), ignore_eos=True)
    with Aquila2Runtime.load(str(golden), device="cpu", dtype="float32") as runtime:
        out = runtime.complete(prompt_token_ids=prompt, params=params)
    assert list(out.token_ids) == continuation


def test_the_context_is_what_position_interpolation_makes_it(shared_data: Path) -> None:
    found = {
        name: read_config(shared_data / "goldens" / "reference-model" / name).max_position
        for name in NAMES
    }
    assert found == {"mha": 128, "gqa_linear4": 512, "linear8": 512}

"""Random mixes of everything at once: each answer is the one it has alone, and nothing is left."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, SamplingParams
from aquila2_runtime import placement as placements
from aquila2_runtime.engine.base import EngineStats
from tests.fixtures_checkpoint import make_checkpoint
from tests.runtime.support import idle, wait_until

CONTEXT = 384
Ids = tuple[int, ...]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("random") / "small"
    return make_checkpoint(
        directory, layout="safetensors", max_position_embeddings=CONTEXT, num_key_value_heads=2
    )


@pytest.fixture(scope="module")
def alone(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aquila2Runtime]:
    """Room for everything, no cache, no speculation; asked one by one."""
    other = make_checkpoint(
        tmp_path_factory.mktemp("alone") / "small",
        layout="safetensors",
        max_position_embeddings=CONTEXT,
        num_key_value_heads=2,
    )
    with Aquila2Runtime.load(
        str(other), device="cpu", dtype="float32", prefix_cache=False
    ) as runtime:
        yield runtime


@dataclasses.dataclass(frozen=True)
class Ask:
    """One request of a mix.

    Attributes:
        stop_after: Tokens after which its reader goes away; None reads to the end.
    """

    prompt: Ids
    params: SamplingParams
    salt: str | None
    stop_after: int | None


def _params(rng: random.Random, *, n: int = 1) -> SamplingParams:
    choices: dict[str, Any] = {
        "max_tokens": rng.randint(1, 60),
        "temperature": rng.choice([0.0, 0.0, 0.3, 1.0, 1.5]),
        "seed": rng.randrange(2**31),
        "ignore_eos": rng.random() < 0.85,
        "n": n,
    }
    if rng.random() < 0.3:
        choices |= {"top_k": rng.choice([1, 5, 50]), "top_p": rng.choice([0.5, 0.9, 1.0])}
    if rng.random() < 0.2:
        choices["repetition_penalty"] = rng.choice([0.8, 1.2])
    if rng.random() < 0.2:
        choices |= {"presence_penalty": 0.5, "frequency_penalty": 0.4}
    if rng.random() < 0.2:
        choices["logit_bias"] = {rng.randrange(310): rng.choice([-5.0, 3.0]) for _ in range(4)}
    if rng.random() < 0.2:
        choices["min_tokens"] = rng.randint(0, choices["max_tokens"])
    if rng.random() < 0.2:
        choices["stop_token_ids"] = tuple(rng.sample(range(310), 6))
    if rng.random() < 0.2:
        choices["stop"] = rng.sample(["e", "th", " s", "a", "1"], 2)
    if rng.random() < 0.2:
        choices["logprobs"] = 2
    return SamplingParams(**choices)


def _asks(rng: random.Random, count: int) -> list[Ask]:
    """Prompts that share beginnings, repeat themselves, or neither."""
    heads = [
        tuple(rng.randrange(1, 300) for _ in range(rng.choice([8, 20, 40, 150, 260])))
        for _ in range(2)
    ]
    asks = []
    for _ in range(count):
        head = rng.choice([*heads, heads[0], ()])
        part = tuple(rng.randrange(1, 300) for _ in range(rng.randint(1, 12)))
        prompt = (head + part * rng.choice([1, 1, 2, 5]))[: CONTEXT - 61]
        salt = rng.choice([None, None, None, "a"])
        stop_after = rng.randint(1, 20) if rng.random() < 0.2 else None
        asks.append(Ask(prompt, _params(rng), salt, stop_after))
    return asks


def _options(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(placements, "_CPU_STEP_TOKENS", rng.choice([1, 7, 64, 512]))
    monkeypatch.setattr(placements, "_CPU_PREFILL_BESIDE", rng.choice([1, 16, 128]))
    tokens = rng.choice([CONTEXT, CONTEXT, CONTEXT + 100, 40 * CONTEXT])
    per_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, numbers, fp32
    return {
        "kv_cache_memory": (tokens + 32) * per_token,
        "max_num_seqs": rng.choice([2, 4, 16, 16]),
        "prefix_cache": rng.random() < 0.8,
        "speculation": rng.choice([None, "ngram", "ngram"]),
    }


def _read_in_turns(runtime: Aquila2Runtime, asks: list[Ask], rng: random.Random) -> list[Ids]:
    """Stream all of them at once, reading now from this one, now from that one."""
    streams = [
        runtime.stream_complete(prompt_token_ids=ask.prompt, params=ask.params, cache_salt=ask.salt)
        for ask in asks
    ]
    found: list[Ids] = [() for _ in asks]
    left = list(range(len(asks)))
    while left:
        at = rng.choice(left)
        delta = next(streams[at], None)
        found[at] += delta.token_ids if delta is not None else ()
        stop_after = asks[at].stop_after
        if delta is None or (stop_after is not None and len(found[at]) >= stop_after):
            streams[at].close()
            left.remove(at)
    return found


def _mix(
    seed: int, checkpoint: Path, alone: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> EngineStats:
    rng = random.Random(seed)
    asks = _asks(rng, rng.randint(2, 14))
    options = _options(rng, monkeypatch)
    with Aquila2Runtime.load(str(checkpoint), device="cpu", dtype="float32", **options) as runtime:
        for _ in range(2):  # the second time the prefix cache is full of the first
            found = _read_in_turns(runtime, asks, rng)
            for ask, ids in zip(asks, found, strict=True):
                right = alone.complete(prompt_token_ids=ask.prompt, params=ask.params).token_ids
                wanted = right if ask.stop_after is None else right[: len(ids)]
                assert ids == wanted, f"mix {seed}, {options}, {ask}"
        several = _params(rng, n=3)
        out = runtime.complete(prompt_token_ids=asks[0].prompt, params=several)
        one = alone.complete(prompt_token_ids=asks[0].prompt, params=several)
        assert [choice.text for choice in out.choices] == [choice.text for choice in one.choices]
        assert wait_until(lambda: idle(runtime))
        return runtime.stats()


@pytest.mark.timeout(400)
def test_every_answer_of_a_mix_is_the_one_it_has_alone(
    checkpoint: Path, alone: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = [_mix(seed, checkpoint, alone, monkeypatch) for seed in range(8)]
    # Mixes in which nothing gives way, is guessed right or is found again would show little.
    assert sum(one.preemptions for one in stats) > 0
    assert sum(one.accepted_tokens for one in stats) > 0
    assert sum(one.cached_tokens for one in stats) > 0


@pytest.mark.slow
@pytest.mark.timeout(2_400)
def test_every_answer_of_many_mixes_is_the_one_it_has_alone(
    checkpoint: Path, alone: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(1_000, 1_150):
        _mix(seed, checkpoint, alone, monkeypatch)

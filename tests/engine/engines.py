"""What the tests of whole engines share: a small model, requests, and what became of them."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from aquila2_runtime.checkpoint.config import ModelConfig, read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.ahead_runner import WORTH_A_PLAIN_STEP, AheadRunner
from aquila2_runtime.engine.attention.base import Attention
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.base import EngineRequest, Finished
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.handle import RequestHandle
from aquila2_runtime.engine.kv_cache import BlockPool
from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.sampler import Sampler
from aquila2_runtime.engine.scheduler import Scheduler
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.sampling import SamplingParams
from tests.fixtures_checkpoint import VOCAB_SIZE, make_checkpoint

BLOCK_SIZE = 4
MAX_LEN = 128
POSITIONS = 640
EOS = VOCAB_SIZE - 1

Wrap = Callable[[PagedKVCache], Attention]


@dataclasses.dataclass(frozen=True)
class Model:
    """A decoder and its facts; engines of one test after another run it."""

    decoder: Decoder
    config: ModelConfig


def make_model(directory: Path, device: str = "cpu", *, fused: bool = False, **sizes: int) -> Model:
    """A tiny model of random weights in fp32; with the Triton operations where ``fused``."""
    path = make_checkpoint(directory, **({"num_key_value_heads": 2} | sizes))
    config = read_config(path)
    where = torch.device(device)
    weights = load_weights(path, config, dtype=torch.float32, device=where)
    pointwise = None
    if fused:
        from aquila2_runtime.engine.fused_pointwise import FusedPointwise

        pointwise = FusedPointwise(config.rms_norm_eps, torch.float32, where)
    return Model(Decoder(weights, config, POSITIONS, pointwise), config)


def make_engine(
    model: Model,
    *,
    ahead: bool,
    blocks: int = 400,
    max_num_seqs: int = 6,
    step_tokens: int = 32,
    attention: Wrap = GatheredAttention,
    kv_dtype: torch.dtype = torch.float32,
    speculate: bool = False,
    capture: bool = False,
    worth: int = WORTH_A_PLAIN_STEP,
    max_len: int = MAX_LEN,
) -> TorchEngine:
    """An engine over its own cache, decoding ahead or not."""
    device = model.decoder.device

    def build() -> tuple[Runner, Scheduler]:
        cache = PagedKVCache(
            num_layers=model.config.num_layers, num_blocks=blocks, block_size=BLOCK_SIZE,
            num_kv_heads=model.config.num_kv_heads, head_dim=model.config.head_dim,
            dtype=kv_dtype, device=device,
        )  # fmt: skip
        scheduler = Scheduler(
            BlockPool(blocks, BLOCK_SIZE), max_num_seqs=max_num_seqs,
            max_step_tokens=step_tokens, speculate=speculate, ahead=ahead,
        )  # fmt: skip
        sampler = Sampler(VOCAB_SIZE, VOCAB_SIZE)
        if not ahead:
            return Runner(model.decoder, attention(cache), sampler), scheduler
        runner = AheadRunner(
            model.decoder, attention(cache), sampler, max_num_seqs=max_num_seqs,
            max_model_len=max_len, n_ids=VOCAB_SIZE, capture=capture, worth=worth,
        )  # fmt: skip
        return runner, scheduler

    return TorchEngine(build, name="test")


def request(
    prompt: Sequence[int],
    params: SamplingParams | None = None,
    *,
    max_tokens: int = 20,
    seed: int = 1,
    stops: Sequence[int] = (EOS,),
    deadline: float | None = None,
) -> EngineRequest:
    """A request with every default resolved."""
    return EngineRequest(
        prompt_token_ids=tuple(prompt), params=params or SamplingParams(temperature=0.0),
        max_tokens=max_tokens, seed=seed, stop_ids=frozenset(stops), eos_token_id=EOS,
        deadline=deadline,
    )  # fmt: skip


KINDS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=1.0),
    SamplingParams(temperature=0.8, top_p=0.9),
    SamplingParams(temperature=1.2, top_k=20, min_p=0.02),
    SamplingParams(temperature=0.9, repetition_penalty=1.3),
    SamplingParams(temperature=0.0, logprobs=2),
    SamplingParams(temperature=1.0, min_tokens=6),
    SamplingParams(temperature=0.0, logit_bias={5: 4.0}),
    SamplingParams(temperature=0.5, prompt_logprobs=1),
)


def mixed_requests(count: int, seed: int) -> list[EngineRequest]:
    """Requests of every kind: lengths, filters, and stop ids that end some answers early."""
    draws = random.Random(seed)
    made = []
    for number in range(count):
        prompt = [draws.randrange(1, VOCAB_SIZE - 9) for _ in range(draws.choice((1, 3, 4, 40)))]
        stops = draws.sample(range(VOCAB_SIZE), draws.choice((1, 12)))
        made.append(
            request(
                prompt, draws.choice(KINDS), max_tokens=draws.choice((1, 2, 7, 30)),
                seed=number, stops=stops,
            )
        )  # fmt: skip
    return made


def read(handle: RequestHandle) -> tuple[list[int], Finished]:
    """A whole answer."""
    ids: list[int] = []
    while True:
        chunk = handle.read()
        ids += chunk.token_ids
        if chunk.finished is not None:
            return ids, chunk.finished


def serve(
    engine: TorchEngine, requests: Sequence[EngineRequest], *, gap: float = 0.0
) -> list[tuple[list[int], Finished]]:
    """All of them together, or one after the other came in ``gap`` seconds earlier; then close."""
    handles = []
    for entry in requests:
        handles.append(engine.submit(entry))
        if gap:
            time.sleep(gap)
    try:
        return [read(handle) for handle in handles]
    finally:
        engine.close()


class CountingAttention(GatheredAttention):
    """Counts steps, their rows, and the prefixes they read once."""

    def __init__(self, cache: PagedKVCache) -> None:
        super().__init__(cache)
        self.rows: list[int] = []
        self.shared = 0

    def attend(self, layer, query, key, value, plan):  # type: ignore[no-untyped-def]
        if layer == 0:
            self.rows.append(query.shape[0])
            self.shared += len(plan.shared)
        return super().attend(layer, query, key, value, plan)

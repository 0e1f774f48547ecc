"""Keys and values in 8 bits: the same answers nearly everywhere, in a quarter of fp32's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.attention.cache import PagedKVCache
from aquila2_runtime.engine.attention.gathered import GatheredAttention
from aquila2_runtime.engine.attention.plan import AttentionPlan, PrefillSegment
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.linear import multiplies_bfloat16
from aquila2_runtime.errors import InvalidLoadOptionError

SIZE = 16


def logits_of(decoder: Decoder, path: Path, ids: list[int], dtype: torch.dtype) -> torch.Tensor:
    """Logits of every position, read in two chunks, the second over stored keys."""
    config = read_config(path)
    cache = PagedKVCache(
        num_layers=config.num_layers, num_blocks=8, block_size=SIZE,
        num_kv_heads=config.num_kv_heads, head_dim=config.head_dim, dtype=dtype,
        device=torch.device("cpu"),
    )  # fmt: skip
    attention = GatheredAttention(cache)
    parts = []
    for start, end in ((0, 40), (40, len(ids))):
        positions = torch.arange(start, end)
        blocks = torch.arange(1, -(-end // SIZE) + 1)
        slots = blocks[positions // SIZE] * SIZE + positions % SIZE
        segment = PrefillSegment(0, end - start, end, blocks)
        plan = AttentionPlan(slots, 0, None, None, (segment,))
        hidden = decoder.forward(torch.tensor(ids[start:end]), positions, attention, plan)
        parts.append(decoder.logits(hidden))
    return torch.cat(parts)


def test_eight_bits_move_a_trained_models_probabilities_little(demo_path: Path) -> None:
    """Mean divergence under 0.002 nats a token, on text; the likeliest id stays nearly always."""
    config = read_config(demo_path)
    weights = load_weights(demo_path, config, dtype=torch.float32, device=torch.device("cpu"))
    decoder = Decoder(weights, config, config.max_position)
    text = "The museum opens at 9 in the morning. 图书馆每天早上八点开门。 " * 4
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

    tokenizer = Aquila2Tokenizer.load(demo_path, vocab_size=config.vocab_size)
    ids = tokenizer.encode_ordinary(text)[:100]
    right = logits_of(decoder, demo_path, ids, torch.float32).log_softmax(-1)
    found = logits_of(decoder, demo_path, ids, torch.int8).log_softmax(-1)
    divergence = (right.exp() * (right - found)).sum(-1).mean()
    assert float(divergence) < 0.002
    assert float((right.argmax(-1) == found.argmax(-1)).float().mean()) > 0.95


def test_a_runtime_with_eight_bit_keys_answers_and_says_what_it_holds(
    own_demo: dict[str, str],
) -> None:
    question = [Message("user", "The museum opens at 9. When does it open?")]
    params = SamplingParams(temperature=0.0, max_tokens=12)
    with Aquila2Runtime.load(**own_demo, kv_cache_dtype="int8", max_num_seqs=4) as runtime:
        assert runtime.info.kv_cache_dtype == "int8"
        per_token = runtime.info.kv_cache_bytes / runtime.info.kv_cache_tokens
        assert len(runtime.chat(question, params).token_ids) > 0
        again = runtime.chat_batch([question] * 3, params)
        assert len({output.token_ids for output in again}) == 1
    with Aquila2Runtime.load(**own_demo, max_num_seqs=4) as runtime:
        wide = runtime.info.kv_cache_bytes / runtime.info.kv_cache_tokens
    assert per_token < 0.33 * wide


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor multiplies no bfloat16")
def test_a_bfloat16_model_keeps_16_bits_on_cpu_and_answers_as_with_32(
    own_demo: dict[str, str],
) -> None:
    """Greedy probabilities of an answer move by less than its rounding elsewhere."""
    question = [
        Message("user", "The museum opens at 9. The guide is Ann Reed.\n\nWho is the guide?")
    ]
    params = SamplingParams(temperature=0.0, max_tokens=12, logprobs=0)
    config = read_config(Path(own_demo["model"]))
    numbers = config.num_layers * config.num_kv_heads * config.head_dim
    found = {}
    for kv_dtype in (None, "float32"):
        options = {"dtype": "bfloat16", "kv_cache_dtype": kv_dtype, "max_num_seqs": 4}
        with Aquila2Runtime.load(**own_demo, **options) as runtime:
            info = runtime.info
            assert info.kv_cache_dtype == (kv_dtype or "bfloat16")
            output = runtime.chat(question, params)
            # Keys twice and values once, of two bytes; or both of four; and a block for padding.
            held = info.kv_cache_bytes / (info.kv_cache_tokens + 16)
            assert held == numbers * (6 if kv_dtype is None else 8)
            found[kv_dtype] = output
    narrow, wide = found[None], found["float32"]
    assert narrow.token_ids == wide.token_ids
    assert narrow.logprobs is not None
    assert wide.logprobs is not None
    for one, other in zip(narrow.logprobs, wide.logprobs, strict=True):
        assert abs(one.logprob - other.logprob) < 0.05


def test_options_for_other_machines_are_refused_here(own_demo: dict[str, str]) -> None:
    """They name the option and the reason, before anything is loaded."""
    for name, value in (("attention", "paged"), ("cuda_graphs", True)):
        with pytest.raises(InvalidLoadOptionError, match="CUDA") as caught:
            Aquila2Runtime.load(**own_demo, **{name: value})
        assert caught.value.parameter == name
    with pytest.raises(InvalidLoadOptionError, match="nf4"):
        Aquila2Runtime.load(**own_demo, nf4_copy=True)
    with pytest.raises(InvalidLoadOptionError, match="attention"):
        Aquila2Runtime.load(**own_demo, attention="fast")

"""What ``doctor`` says would fit, for the released sizes and the memory of common cards."""

from __future__ import annotations

from typing import Any

from aquila2_runtime.checkpoint.config import parse_config
from aquila2_runtime.fits import ways_that_fit
from aquila2_runtime.load_options import LoadOptions
from tests.fixtures_checkpoint import make_config

GIB = 2**30
BIG: dict[str, Any] = {
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_hidden_layers": 60,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "vocab_size": 100_008,
    "bos_token_id": 100_006,
    "eos_token_id": 100_007,
    "max_position_embeddings": 16_384,
    "torch_dtype": "bfloat16",
}
OPTIONS = LoadOptions(model="AquilaChat2-34B-16K", device="cpu", dtype="bfloat16")


def ways(free: int) -> dict[str, int]:
    config = parse_config(make_config(**BIG))
    return {way.options: way.max_model_len for way in ways_that_fit(OPTIONS, config, [free])}


def test_a_card_of_24_gib_holds_the_34b_in_nf4_only() -> None:
    found = ways(24 * GIB)
    assert set(found) == {'quantization="nf4"', 'quantization="nf4", kv_cache_dtype="int8"'}
    plain, short = found['quantization="nf4"'], found['quantization="nf4", kv_cache_dtype="int8"']
    assert 0 < plain < short <= 16_384
    assert plain % 16 == short % 16 == 0


def test_a_card_of_80_gib_holds_it_as_it_is_and_a_small_one_not_at_all() -> None:
    found = ways(80 * GIB)
    assert next(iter(found)) == "no quantization"
    assert found['quantization="nf4"'] == 16_384
    assert ways(8 * GIB) == {}

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquila2_runtime.checkpoint.config import ModelConfig, parse_config, read_config
from aquila2_runtime.errors import ConfigError
from tests.fixtures_checkpoint import make_config, write_json


def read_text(directory: Path, text: str | bytes) -> ModelConfig:
    data = text.encode() if isinstance(text, str) else text
    (directory / "config.json").write_bytes(data)
    return read_config(directory)


def released(**changes: Any) -> ModelConfig:
    """The 7B's file, with changes."""
    return parse_config(
        make_config(
            **{
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "vocab_size": 100_008,
                "bos_token_id": 100_006,
                "eos_token_id": 100_007,
                "max_position_embeddings": 2048,
            }
            | changes
        )
    )


def test_the_released_7b_reads_as_its_card_says() -> None:
    config = released()
    assert config.num_parameters == 7_295_537_152
    assert (config.num_kv_heads, config.head_dim) == (32, 128)
    assert (config.rope_theta, config.rope_factor, config.max_position) == (10_000.0, 1.0, 2048)
    assert config.torch_dtype == "float16"


def test_the_released_34b_reads_as_its_card_says() -> None:
    config = released(
        hidden_size=6144,
        intermediate_size=24576,
        num_hidden_layers=60,
        num_attention_heads=48,
        num_key_value_heads=8,
        max_position_embeddings=4096,
    )
    assert config.num_parameters == 33_693_554_688
    assert (config.num_kv_heads, config.head_dim) == (8, 128)


@pytest.mark.parametrize(
    ("stated", "factor", "context"),
    [
        (2048, 8.0, 16384),
        (16384, 8.0, 16384),
        (4096, 4.0, 16384),
        (16384, 4.0, 16384),
        (64, 8.0, 512),
        (128, 4.0, 512),
        (32768, 2.0, 32768),
    ],
)
def test_the_context_is_the_stated_length_times_the_factor_unless_it_says_16k_already(
    stated: int, factor: float, context: int
) -> None:
    config = released(
        max_position_embeddings=stated, rope_scaling={"type": "linear", "factor": factor}
    )
    assert (config.max_position, config.rope_factor) == (context, factor)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "factor": 4}},
        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
    ],
)
def test_linear_scaling_is_read_in_each_of_its_spellings(rope: dict[str, Any]) -> None:
    config = released(max_position_embeddings=4096, **rope)
    assert (config.rope_factor, config.rope_theta, config.max_position) == (4.0, 10_000.0, 16384)


def test_no_scaling_may_be_said_in_words_and_theta_in_two_places() -> None:
    assert released(rope_scaling={"type": "default"}).rope_factor == 1.0
    assert released(rope_parameters={"rope_theta": 1e6}).rope_theta == 1e6
    assert released(rope_theta=1e6, vocab_size=143_973, eos_token_id=143_718).rope_theta == 1e6


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"factor": 4.0}},
        {"rope_scaling": {"type": "linear", "rope_type": "dynamic", "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "factor": 0.5}},
        {"rope_scaling": {"type": "linear", "factor": -4.0}},
        {"rope_scaling": {"type": "linear", "factor": True}},
        {"rope_scaling": {"type": "linear", "factor": "4"}},
        {"rope_scaling": {"type": ["linear"], "factor": 4.0}},
        {"rope_scaling": {"type": "linear", "factor": 4.0, "surprise": 1}},
        {"rope_scaling": "linear"},
        {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_parameters": {"type": "default"}},
        {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}},
        {"rope_theta": 0},
        {"rope_theta": "10000"},
    ],
)
def test_unknown_or_contradictory_rope_settings_are_refused(rope: dict[str, Any]) -> None:
    """L7: unknown rope scaling is a ConfigError."""
    with pytest.raises(ConfigError):
        released(**rope)


def test_missing_ids_are_those_of_the_vocabulary_and_never_the_codes_defaults() -> None:
    config = released(bos_token_id=None, eos_token_id=None, pad_token_id=None)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        100_006,
        100_007,
        None,
    )
    newer = released(bos_token_id=None, eos_token_id=None, vocab_size=143_973)
    assert (newer.bos_token_id, newer.eos_token_id) == (143_717, 143_718)
    with pytest.raises(ConfigError, match="eos_token_id"):
        released(eos_token_id=None, vocab_size=100_007)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "gpt2"),
        ("model_type", None),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_size", 0),
        ("hidden_size", -4096),
        ("hidden_size", 2**31),
        ("hidden_size", 4096.0),
        ("hidden_size", True),
        ("hidden_size", "4096"),
        ("hidden_size", None),
        ("hidden_size", 4097),
        ("intermediate_size", 0),
        ("intermediate_size", 2**40),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 0),
        ("num_attention_heads", 33),
        ("num_attention_heads", 4096),
        ("num_key_value_heads", 0),
        ("num_key_value_heads", 5),
        ("num_key_value_heads", 64),
        ("head_dim", 127),
        ("head_dim", 2**20),
        ("vocab_size", 0),
        ("vocab_size", 2**31),
        ("vocab_size", 100_007),
        ("max_position_embeddings", 0),
        ("max_position_embeddings", 2**40),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", -1e-5),
        ("rms_norm_eps", "1e-5"),
        ("torch_dtype", "int8"),
        ("torch_dtype", 16),
        ("tie_word_embeddings", "no"),
        ("bos_token_id", 100_008),
        ("eos_token_id", -1),
        ("eos_token_id", [100_007, 100_006]),
        ("pad_token_id", 1.5),
        ("partial_rotary_factor", 0.5),
    ],
)
def test_a_bad_value_is_refused_by_name(key: str, value: object) -> None:
    """L7: sizes, heads, vocabulary and model type are checked before any allocation."""
    with pytest.raises(ConfigError) as caught:
        released(**{key: value})
    assert caught.value.parameter is not None
    assert caught.value.hint


def test_sizes_that_are_small_alone_and_vast_together_are_refused() -> None:
    """L7: hidden_size near its bound cannot allocate."""
    with pytest.raises(ConfigError, match="parameters"):
        released(
            hidden_size=2**17,
            intermediate_size=2**20,
            num_hidden_layers=1000,
            num_attention_heads=1024,
        )


def test_a_quantized_checkpoint_of_an_unknown_kind_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="nf4") as caught:
        released(quantization_config={"quant_method": "bitnet", "bits": 2})
    assert caught.value.parameter == "quantization_config"
    with pytest.raises(ConfigError, match="nf4") as caught:
        released(compression_config={"format": "pack-quantized"})
    assert caught.value.parameter == "compression_config"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"rms_norm_eps": NaN}', "NaN"),
        ('{"rms_norm_eps": Infinity}', "Infinity"),
        ('{"rms_norm_eps": -Infinity}', "Infinity"),
        ('{"rms_norm_eps": 1e999}', "overflows"),
        ('{"hidden_size": 64, "hidden_size": 65}', "duplicate"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate"),
        ('{"hidden_size": ' + "9" * 5000 + "}", "64 bits"),
        ('{"hidden_size": 9223372036854775808}', "64 bits"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested"),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested"),
        ('{"a": ' * 100_000, "nested"),
        ("[]", "object"),
        ("", "not valid"),
        ("{", "not valid"),
        ('{"a": 1} x', "not valid"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid"),
        ("{'a': 1}", "not valid"),
    ],
)
def test_json_beyond_the_standard_is_refused(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    """L7: NaN, Infinity, duplicate keys, huge integers and deep nesting are ConfigErrors."""
    with pytest.raises(ConfigError, match=reason):
        read_text(tmp_path, text)


def test_a_huge_or_special_config_file_is_refused_unread(tmp_path: Path) -> None:
    """L7: the size is checked before the contents."""
    with pytest.raises(ConfigError, match="missing"):
        read_config(tmp_path)
    with pytest.raises(ConfigError, match="bytes"):
        read_text(tmp_path, " " * (1 << 20) + "{}")
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigError, match="missing"):
        read_config(tmp_path)


def test_code_and_paths_named_by_the_files_have_no_effect(tmp_path: Path) -> None:
    """L1: auto_map and a trust flag in the file are ignored. L9: so are generation settings."""
    write_json(
        tmp_path / "config.json",
        make_config(trust_remote_code=True, transformers_weights="/etc/passwd", max_length=10**6),
    )
    plain = read_config(tmp_path)
    write_json(
        tmp_path / "generation_config.json",
        {"max_length": 10**9, "custom_generate": "evil", "chat_template": "{{ 7 * 7 }}"},
    )
    assert read_config(tmp_path) == plain
    assert plain.max_position == 128


def test_a_generation_config_that_disagrees_changes_nothing_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """L9: config.json decides which token ends a text."""
    write_json(tmp_path / "config.json", make_config())
    write_json(tmp_path / "generation_config.json", {"eos_token_id": 2})
    with caplog.at_level(logging.WARNING):
        assert read_config(tmp_path).eos_token_id == 319
    assert "eos_token_id" in caplog.text


@pytest.mark.parametrize("added", [{"</s>": 320}, {"</s>": "7"}, {"</s>": -1}])
def test_added_tokens_without_an_embedding_row_are_refused(
    tmp_path: Path, added: dict[str, object]
) -> None:
    """L7: a vocabulary below the tokenizer's size."""
    write_json(tmp_path / "config.json", make_config())
    write_json(tmp_path / "added_tokens.json", added)
    with pytest.raises(ConfigError, match=r"added_tokens\.json"):
        read_config(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(make_config())), json_values, max_size=4))
def test_any_change_of_the_file_is_read_or_refused_and_nothing_else(
    changes: dict[str, Any],
) -> None:
    """L7: whatever config.json says, the answer is a ModelConfig or a ConfigError."""
    try:
        config = parse_config(json.loads(json.dumps({**make_config(), **changes})))
    except ConfigError:
        return
    assert config.hidden_size % config.num_heads == 0
    assert config.num_heads % config.num_kv_heads == 0
    assert 0 <= config.eos_token_id < config.vocab_size


def test_goldens_are_read_with_their_real_context(shared_data: Path) -> None:
    goldens = shared_data / "goldens" / "reference-model"
    found = {name: read_config(goldens / name) for name in ("mha", "linear8", "gqa_linear4")}
    assert {name: config.max_position for name, config in found.items()} == {
        "mha": 128,
        "linear8": 512,
        "gqa_linear4": 512,
    }
    assert found["gqa_linear4"].num_kv_heads == 2

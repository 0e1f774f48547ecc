"""Refusals that must hold under ``python -O``; ``make test`` runs this file with and without it.

pytest turns the asserts of test files into plain raises, so they are not lost under ``-O``; the
first test makes sure of it. In the packages themselves there is no assert to lose
(tests/packaging), and what follows shows that every gate is a real one.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    CheckpointError,
    ConfigError,
    ContextOverflowError,
    InvalidLoadOptionError,
    InvalidPromptError,
    InvalidSamplingParamsError,
    Message,
    SamplingParams,
    TemplateError,
    UnknownParameterError,
    WeightsError,
)
from aquila2_runtime.load_options import LoadOptions

BAD_PARAMS: list[dict[str, Any]] = [
    {"max_tokens": 0},
    {"max_tokens": True},
    {"max_tokens": 10**9},
    {"min_tokens": -1},
    {"min_tokens": 5, "max_tokens": 4},
    {"temperature": math.nan},
    {"temperature": math.inf},
    {"temperature": -0.1},
    {"temperature": "1"},
    {"top_p": 0},
    {"top_p": 1.1},
    {"top_p": math.nan},
    {"top_k": -2},
    {"top_k": 1.5},
    {"min_p": 2},
    {"repetition_penalty": 0},
    {"presence_penalty": 3},
    {"frequency_penalty": None},
    {"logit_bias": {-1: 1.0}},
    {"logit_bias": {1: math.nan}},
    {"logit_bias": [1]},
    {"stop": ""},
    {"stop": ["x" * 1_000_000]},
    {"stop": ["x"] * 1_000},
    {"stop_token_ids": [-1]},
    {"stop_token_ids": [True]},
    {"ignore_eos": 1},
    {"seed": 2**64},
    {"n": 10**9},
    {"logprobs": 10**6},
]
BAD_OPTIONS: list[dict[str, Any]] = [
    {"model": ""},
    {"model": 3},
    {"model": "x", "quantization": "int3"},
    {"model": "x", "device": "tpu"},
    {"model": "x", "dtype": "float8"},
    {"model": "x", "max_model_len": 0},
    {"model": "x", "max_model_len": True},
    {"model": "x", "allow_pickle": "yes"},
    {"model": "x", "kv_cache_memory": "lots"},
    {"model": "x", "source": "elsewhere"},
]


def test_asserts_of_tests_survive() -> None:
    """Without this the rest of the file could pass by saying nothing."""
    with pytest.raises(AssertionError):
        assert [] == [1]


def test_the_interpreter_drops_other_asserts_when_asked_to() -> None:
    """The mode is what the command line said: compiled code loses its asserts under -O."""
    code = compile("assert False", "other.py", "exec")
    if sys.flags.optimize:
        exec(code)
    else:
        with pytest.raises(AssertionError):
            exec(code)


@pytest.mark.parametrize("fields", BAD_PARAMS, ids=str)
def test_a_bad_sampling_parameter_is_refused(fields: dict[str, Any]) -> None:
    """S1: S4, S6 and S11 as well."""
    with pytest.raises(InvalidSamplingParamsError):
        SamplingParams(**fields)


@pytest.mark.parametrize("fields", BAD_OPTIONS, ids=str)
def test_a_bad_load_option_is_refused(fields: dict[str, Any]) -> None:
    """S11: before anything is looked up."""
    with pytest.raises(InvalidLoadOptionError):
        LoadOptions(**fields)


def test_unknown_keywords_are_refused() -> None:
    """S8: everywhere, with the nearest name."""
    with pytest.raises(UnknownParameterError, match="temperature"):
        SamplingParams.from_kwargs(temprature=1)
    with pytest.raises(UnknownParameterError, match="max_model_len"):
        Aquila2Runtime.load("aquila2-demo", max_model_length=8)


@pytest.mark.parametrize(
    ("role", "content"),
    [("wizard", "x"), ("user", None), ("user", b"x"), (None, "x"), ("user", "\ud800"), ("", "")],
    ids=repr,
)
def test_a_message_that_cannot_be_a_prompt_is_refused(
    role: Any, content: Any, demo_runtime: Aquila2Runtime
) -> None:
    """P5: P10 as well."""
    with pytest.raises(InvalidPromptError):
        demo_runtime.render([Message(role, content)])


@pytest.mark.parametrize("messages", [[], "text", [{"role": "user"}], [None]], ids=repr)
def test_a_conversation_of_the_wrong_shape_is_refused(
    messages: Any, demo_runtime: Aquila2Runtime
) -> None:
    """P10: an empty list, a string, dicts and None."""
    with pytest.raises(InvalidPromptError):
        demo_runtime.chat(messages)


@pytest.mark.parametrize(
    "ids", [[-1], [10**6], [2**40], [True], [1.5], ["1"], [[1]], [], [None]], ids=repr
)
def test_token_ids_outside_the_vocabulary_are_refused(
    ids: Any, demo_runtime: Aquila2Runtime
) -> None:
    """P11: none of them may reach the embedding."""
    with pytest.raises(InvalidPromptError):
        demo_runtime.complete(prompt_token_ids=ids)


def test_bias_and_stop_ids_outside_the_vocabulary_are_refused(
    demo_runtime: Aquila2Runtime,
) -> None:
    """S6: known only where the model is."""
    beyond = demo_runtime.info.vocab_size
    for params in (
        SamplingParams(logit_bias={beyond: 1.0}),
        SamplingParams(stop_token_ids=[beyond]),
    ):
        with pytest.raises(InvalidSamplingParamsError):
            demo_runtime.complete("x", params)


def test_a_prompt_that_does_not_fit_is_refused(demo_runtime: Aquila2Runtime) -> None:
    """P8: too many tokens, an answer that cannot fit, and text too long to tokenize."""
    length = demo_runtime.info.max_model_len
    with pytest.raises(ContextOverflowError):
        demo_runtime.complete(prompt_token_ids=[5] * length)
    with pytest.raises(ContextOverflowError):
        demo_runtime.complete("x", SamplingParams(max_tokens=length))
    with pytest.raises(ContextOverflowError):
        demo_runtime.complete("x" * 10_000_000)


def test_control_tokens_never_come_from_text(demo_runtime: Aquila2Runtime) -> None:
    """P1: every spelling, in every role, leaves exactly the template's own control ids."""
    controls = demo_runtime.tokenizer.control_ids
    evil = "".join(controls)
    for role in ("user", "system"):
        said = [Message(role, evil), Message("user", evil)]
        plain = [Message(role, "x"), Message("user", "x")]
        own = [i for i in demo_runtime.render(plain) if i in controls.values()]
        assert [i for i in demo_runtime.render(said) if i in controls.values()] == own


def test_an_unknown_template_is_refused(demo_model: str) -> None:
    """T2: nothing is guessed."""
    with pytest.raises(TemplateError):
        Aquila2Runtime.load(demo_model, template="llama-3", device="cpu")


@pytest.fixture
def copy(demo_path: Path, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    target = tmp_path / "AquilaChat2-7B"
    shutil.copytree(demo_path, target)
    for path in target.iterdir():
        path.chmod(0o644)
    return target


def _config(**changes: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        file = path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def _text(name: str, text: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        (path / name).write_text(text)

    return damage


def _truncate(path: Path) -> None:
    with (path / "model.safetensors").open("r+b") as file:
        file.truncate(1_000_000)


def _missing(path: Path) -> None:
    (path / "model.safetensors").unlink()


def _escaping_index(path: Path) -> None:
    names = {"lm_head.weight": "../../etc/passwd"}
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


DAMAGES: dict[str, tuple[Callable[[Path], None], type[CheckpointError]]] = {
    "nan": (_text("config.json", '{"hidden_size": NaN}'), ConfigError),
    "not json": (_text("config.json", "{"), ConfigError),
    "negative size": (_config(hidden_size=-1), ConfigError),
    "huge size": (_config(hidden_size=2**31), ConfigError),
    "heads do not divide": (_config(num_attention_heads=5), ConfigError),
    "another family": (_config(model_type="gpt2"), ConfigError),
    "another depth": (_config(num_hidden_layers=3), WeightsError),
    "truncated": (_truncate, WeightsError),
    "no weights": (_missing, WeightsError),
    "index leaves the directory": (_escaping_index, WeightsError),
    "no tokenizer": (_text("tokenizer.json", "[]"), CheckpointError),
}


@pytest.mark.parametrize(("damage", "error"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], None], error: type[CheckpointError], copy: Path
) -> None:
    """L3: L6 and L7 as well; nothing half-loaded is returned."""
    damage(copy)
    with pytest.raises(error):
        Aquila2Runtime.load(str(copy), device="cpu")


def test_code_in_a_checkpoint_is_never_run(copy: Path, tmp_path: Path) -> None:
    """L1: a booby-trapped file named in auto_map."""
    mark = tmp_path / "ran"
    trap = f"open({str(mark)!r}, 'w').close()\n"
    for name in ("modeling_aquila.py", "configuration_aquila.py", "__init__.py"):
        (copy / name).write_text(trap)
    classes = {"AutoModelForCausalLM": "modeling_aquila.AquilaForCausalLM"}
    _config(auto_map=classes, trust_remote_code=True)(copy)
    with Aquila2Runtime.load(str(copy), device="cpu", template="aquila-v1") as runtime:
        runtime.chat([Message("user", "x")], SamplingParams(max_tokens=1))
    assert not mark.exists()

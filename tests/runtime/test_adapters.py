"""LoRA adapters in the runtime: trained by peft, answered beside the base and each other."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.lora import check_adapter
from aquila2_runtime.engine import lora
from aquila2_runtime.engine.lora import LoraBank
from aquila2_runtime.errors import (
    ConfigError,
    InsufficientMemoryError,
    InvalidLoadOptionError,
    InvalidRequestError,
    ModelNotFoundError,
    WeightsError,
)
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.lora_adapters import adapter_bytes, add_to_bank
from aquila2_runtime.registry import models
from tests.adapters import ALL, as_of_2023, peft_logits, random_adapter, train_adapter
from tests.checkpoint.test_lora import change
from tests.runtime.support import QUESTIONS, ask

GREEDY = SamplingParams(temperature=0, max_tokens=24)
TAUGHT = {"What is the password?": "violet seven", "Who wrote the letter?": "the miller"}
KEPT = ("Hello!", "The museum opens at 9 in the morning. When does the museum open?")

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@dataclasses.dataclass(frozen=True)
class Adapters:
    base: Path
    taught: Path
    noise: Path
    all: Path
    base_texts: dict[str, str]


def question(text: str) -> list[Message]:
    return [Message("user", text)]


def load(base: Path, **options: Any) -> Aquila2Runtime:
    return Aquila2Runtime.load(str(base), template="aquila-v1", device="cpu", **options)


@pytest.fixture(scope="module")
def made(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    """One adapter taught two answers by peft, and two of random values."""
    folder = tmp_path_factory.mktemp("adapters")
    base = shutil.copytree(demo_path, folder / "base")
    with load(base) as runtime:
        eos = runtime.tokenizer.eos_token_id
        texts = {}
        examples = []
        for text in (*TAUGHT, *KEPT):
            out = runtime.chat(question(text), GREEDY)
            texts[text] = out.text
            answer = [*out.token_ids]
            if text in TAUGHT:
                answer = [*runtime.tokenizer.encode_ordinary(TAUGHT[text]), eos]
            examples.append((runtime.render(question(text)), answer))
    return Adapters(
        base,
        train_adapter(base, folder / "taught", examples),
        random_adapter(base, folder / "noise", size=0.08),
        random_adapter(
            base, folder / "all", seed=3, size=0.04, r=16, target_modules=list(ALL), use_rslora=True
        ),
        texts,
    )


@pytest.fixture(scope="module")
def runtime(made: Adapters) -> Iterator[Aquila2Runtime]:
    adapters = {"taught": made.taught, "noise": made.noise, "all": made.all}
    with load(made.base, adapters=adapters) as loaded:
        yield loaded


def test_a_trained_adapter_changes_exactly_the_answers_it_was_taught(
    made: Adapters, runtime: Aquila2Runtime
) -> None:
    for text, base_text in made.base_texts.items():
        wanted = TAUGHT.get(text, base_text)
        assert runtime.chat(question(text), GREEDY, adapter="taught").text == wanted
        assert runtime.chat(question(text), GREEDY).text == base_text


@pytest.mark.parametrize("name", ["taught", "noise", "all"])
def test_logits_equal_pefts_own(made: Adapters, runtime: Aquila2Runtime, name: str) -> None:
    """R1 for adapters: fp32, at most 1e-4 apart, at every position."""
    text = QUESTIONS[0]
    ids = runtime.render(question(text))
    wanted = peft_logits(made.base, getattr(made, name), ids)
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=5, logprobs=5)
    out = runtime.chat(question(text), params, adapter=name)
    scores = wanted.log_softmax(-1)
    assert out.prompt_logprobs is not None
    seen = [entry for entry in out.prompt_logprobs if entry is not None]
    assert len(seen) == len(ids) - 1
    for position, entry in enumerate(seen):
        assert entry.token_id == ids[position + 1]
        assert abs(entry.logprob - float(scores[position, entry.token_id])) <= 1e-4
        for token_id, _, logprob in entry.top:
            assert abs(logprob - float(scores[position, token_id])) <= 1e-4
    assert out.token_ids[0] == int(wanted[-1].argmax())


def test_their_memory_is_said_before_they_are_loaded(
    made: Adapters, runtime: Aquila2Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """L10: from their headers alone; on a GPU, where nothing is padded, to the byte."""
    config = read_config(made.base)
    files = [check_adapter(name, getattr(made, name), config) for name in ("taught", "all")]
    bank = LoraBank(config, torch.float32, torch.device("cpu"))
    add_to_bank(bank, files)
    plain = sum(
        site.shrink.plain().nbytes + site.grow.plain().nbytes for site in bank._sites.values()
    )
    on_cpu, on_cuda = (
        adapter_bytes(config, torch.float32, torch.device(device), [*files, files[0]])
        for device in ("cpu", "cuda")
    )
    assert on_cuda == plain
    assert plain <= bank.num_bytes <= on_cpu
    with caplog.at_level("INFO", "aquila2_runtime"):
        load(made.base, adapters={"all": made.all}, dtype="bfloat16").close()
    assert "adapters" in caplog.text


def test_an_adapter_that_does_not_fit_beside_a_running_model_is_an_error_of_ours(
    made: Adapters, runtime: Aquila2Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 96.00 MiB.")

    monkeypatch.setattr(lora.LoraBank, "add", full)
    other = random_adapter(made.base, made.base.parent / "other", seed=9)
    with pytest.raises(InsufficientMemoryError, match=r"'late' does not fit.*96\.00 MiB"):
        load(made.base, adapters={"late": other})
    assert runtime.healthy


def test_a_mixed_batch_answers_every_request_as_if_alone(
    made: Adapters, runtime: Aquila2Runtime
) -> None:
    names = (None, "taught", "noise", "all")
    params = SamplingParams(temperature=0.8, seed=11, max_tokens=24)
    jobs = [(index, name) for index in range(len(QUESTIONS)) for name in names]
    solo = [runtime.chat(ask(index), params, adapter=name).token_ids for index, name in jobs]

    async def together() -> list[Any]:
        return await asyncio.gather(
            *(runtime.achat(ask(index), params, adapter=name) for index, name in jobs)
        )

    before = runtime.stats()
    mixed = [out.token_ids for out in asyncio.run(together())]
    after = runtime.stats()
    rows = after.decode_rows - before.decode_rows
    assert rows / (after.decode_steps - before.decode_steps) > 4  # really in one batch
    assert mixed == solo
    with load(made.base) as plain:
        base = [plain.chat(ask(index), params).token_ids for index in range(len(QUESTIONS))]
    assert [ids for ids, (_, name) in zip(solo, jobs, strict=True) if name is None] == base
    # The adapters do differ, or all of this would say nothing.
    answers = [solo[at : at + len(names)] for at in range(0, len(solo), len(names))]
    assert any(len(set(of_one_question)) > 1 for of_one_question in answers)


def test_cached_prefixes_are_never_shared_between_adapters(runtime: Aquila2Runtime) -> None:
    text = "Every crate weighs 12 kg and has the code QX-417. " * 6 + "What is the code?"
    answers = {}
    for name in (None, "noise", "all"):
        first = runtime.chat(question(text), GREEDY, adapter=name)
        again = runtime.chat(question(text), GREEDY, adapter=name)
        assert first.usage.cached_tokens == 0
        assert again.usage.cached_tokens > 0
        assert again.token_ids == first.token_ids
        answers[name] = first.token_ids
    # A salt that spells an adapter's key opens nothing.
    key = runtime._prompts.adapters["noise"]
    salted = runtime.chat(question(text), GREEDY, cache_salt=key)
    assert salted.usage.cached_tokens == 0
    assert salted.token_ids == answers[None]


@pytest.mark.parametrize("name", ["taught", "all"])
def test_merged_equals_unmerged(made: Adapters, runtime: Aquila2Runtime, name: str) -> None:
    params = SamplingParams(temperature=0, max_tokens=16, logprobs=0)
    path = getattr(made, name)
    with load(made.base, adapters={name: path}, merge_adapter=name) as merged:
        assert merged.info.merged_adapter == name
        assert merged.info.weight_bytes == runtime.info.weight_bytes
        for text in made.base_texts:
            beside = runtime.chat(question(text), params, adapter=name)
            inside = merged.chat(question(text), params)
            named = merged.chat(question(text), params, adapter=name)
            assert inside.token_ids == named.token_ids == beside.token_ids
            pairs = zip(inside.logprobs or (), beside.logprobs or (), strict=True)
            assert all(abs(a.logprob - b.logprob) <= 1e-4 for a, b in pairs)
        # Merged for one, never for another: it is a model of its own.
        assert runtime.chat(question("Hello!"), GREEDY).text == made.base_texts["Hello!"]
        with load(made.base) as plain:
            assert plain._model() is not merged._model()


def test_the_reference_projects_layout_answers_the_same(
    made: Adapters, runtime: Aquila2Runtime, tmp_path: Path
) -> None:
    old = as_of_2023(made.taught, tmp_path / "old")
    with load(made.base, adapters={"old": old}) as loaded:
        for text, wanted in TAUGHT.items():
            assert loaded.chat(question(text), GREEDY, adapter="old").text == wanted


def test_runtimes_share_weights_and_each_has_names_of_its_own(
    made: Adapters, runtime: Aquila2Runtime
) -> None:
    with load(made.base, adapters={"taught": made.all}) as other, load(made.base) as plain:
        assert other._model() is plain._model() is runtime._model()
        assert other.info.adapters == ("taught",)
        ids = other.chat(ask(0), GREEDY, adapter="taught").token_ids
        assert ids == runtime.chat(ask(0), GREEDY, adapter="all").token_ids
        with pytest.raises(InvalidRequestError, match="not loaded"):
            plain.chat(ask(0), adapter="taught")
        with pytest.raises(InvalidRequestError, match="'taught'"):
            other.chat(ask(0), adapter="noise")
    with pytest.raises(InvalidRequestError):
        runtime.chat(ask(0), adapter=3)


def test_an_adapter_joins_while_the_model_is_answering(
    made: Adapters, runtime: Aquila2Runtime, tmp_path: Path
) -> None:
    own = random_adapter(made.base, tmp_path / "own", seed=9)
    stream = runtime.stream_chat(
        ask(7), SamplingParams(temperature=0, max_tokens=64), adapter="all"
    )
    first = next(stream)
    with load(made.base, adapters={"own": own}) as other:
        ids = other.chat(ask(0), GREEDY, adapter="own").token_ids
    rest = [token_id for delta in stream for token_id in delta.token_ids]
    alone = runtime.chat(ask(7), SamplingParams(temperature=0, max_tokens=64), adapter="all")
    assert (*first.token_ids, *rest) == alone.token_ids
    with load(made.base, adapters={"own": own}) as again:
        assert again.chat(ask(0), GREEDY, adapter="own").token_ids == ids


def test_nothing_stays_loaded_when_an_adapter_is_wrong(made: Adapters, tmp_path: Path) -> None:
    base = shutil.copytree(made.base, tmp_path / "base")
    before = len(models._models)
    broken = shutil.copytree(made.noise, tmp_path / "broken")
    change(broken, use_dora=True)
    with pytest.raises(ConfigError, match="use_dora"):
        load(base, adapters={"broken": broken})
    with pytest.raises(ModelNotFoundError, match="broken"):
        load(base, adapters={"broken": tmp_path / "none"})
    change(broken, use_dora=False)
    (broken / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match="adapter_model"):
        load(base, adapters={"broken": broken})
    assert len(models._models) == before


def test_values_that_are_not_finite_fail_the_load_and_not_the_running_model(
    made: Adapters, runtime: Aquila2Runtime, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    spoiled = shutil.copytree(made.noise, tmp_path / "spoiled")
    tensors = load_file(spoiled / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, spoiled / "adapter_model.safetensors")
    for options in ({}, {"merge_adapter": "spoiled"}):
        with pytest.raises(WeightsError, match="NaN"):
            load(made.base, adapters={"spoiled": spoiled}, **options)
    assert runtime.healthy
    assert runtime.chat(question("Hello!"), GREEDY).text == made.base_texts["Hello!"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adapters": {"a": "x", "b": "y"}, "merge_adapter": "a"}, "merge_adapter"),
        ({"merge_adapter": "a"}, "merge_adapter"),
        ({"adapters": {"a": "x"}, "merge_adapter": "b"}, "merge_adapter"),
        ({"adapters": {"../a": "x"}}, "adapters"),
        ({"adapters": {"": "x"}}, "adapters"),
        ({"adapters": {"a": ""}}, "adapters"),
        ({"adapters": {"a": "x\0"}}, "adapters"),
        ({"adapters": {"a": 3}}, "adapters"),
        ({"adapters": {3: "x"}}, "adapters"),
        ({"adapters": "x"}, "adapters"),
        ({"adapters": ["a"]}, "adapters"),
        ({"adapters": {f"a{number}": "x" for number in range(65)}}, "adapters"),
    ],
)
def test_bad_adapter_options_are_refused_before_any_work(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidLoadOptionError) as caught:
        LoadOptions(model="aquila2-demo", **options)
    assert caught.value.parameter == named


def test_options_with_adapters_are_equal_and_rebuilt_from_their_keywords(tmp_path: Path) -> None:
    first = LoadOptions(model="m", adapters={"b": tmp_path, "a": "x"})
    again = LoadOptions(model="m", adapters={"a": "x", "b": str(tmp_path)})
    assert first == again
    assert hash(first) == hash(again)
    assert LoadOptions.from_kwargs(**first.to_kwargs()) == first
    assert LoadOptions(model="m", adapters={}) == LoadOptions(model="m")


def test_the_base_is_what_it_was(made: Adapters, demo_path: Path) -> None:
    """L12: loading adapters is read-only."""
    assert read_config(made.base) == read_config(demo_path)
    for file in demo_path.iterdir():
        assert (made.base / file.name).read_bytes() == file.read_bytes()
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_an_adapter_beside_quantized_weights_answers_as_pefts_own_does(
    made: Adapters, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QLoRA at inference: the base is packed, the adapter is not."""
    pytest.importorskip("bitsandbytes")
    # int8 rounds the layers' inputs as well: the last digits of an adapter's products decide on
    # which side of a border some of them fall, and those decide on others. So peft's own kernel.
    monkeypatch.setattr(lora, "linear", lambda weight: functools.partial(_product, weight))
    options: dict[str, Any] = {"quantization": quantization, "dtype": "float32"}
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    with load(made.base, adapters={"all": made.all}, **options) as quantized:
        ids = quantized.render(ask(0))
        out = quantized.chat(ask(0), params, adapter="all")
    scores = peft_logits(made.base, made.all, ids, quantization=quantization).log_softmax(-1)
    seen = [entry for entry in out.prompt_logprobs or () if entry is not None]
    apart = [
        abs(entry.logprob - float(scores[at, entry.token_id])) for at, entry in enumerate(seen)
    ]
    plain = peft_logits(made.base, made.all, ids).log_softmax(-1)
    rounded = [
        abs(float(plain[at, entry.token_id] - scores[at, entry.token_id]))
        for at, entry in enumerate(seen)
    ]
    # Far closer to peft over the same packed weights than packing itself moves the numbers.
    assert sum(apart) / len(apart) < 0.2 * sum(rounded) / len(rounded)


def _product(weight: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(states, weight)


def test_merging_comes_before_packing(made: Adapters) -> None:
    pytest.importorskip("bitsandbytes")
    options: dict[str, Any] = {"quantization": "nf4", "dtype": "float32"}
    with load(made.base, adapters={"t": made.taught}, merge_adapter="t", **options) as merged:
        for text, wanted in TAUGHT.items():
            assert merged.chat(question(text), GREEDY).text == wanted

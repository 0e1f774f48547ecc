"""A model over several devices gives what it gives on one.

Without GPUs the devices are the CPU twice: layers, caches, plans and adapters are divided all the
same. That nothing is left behind on another device is shown by a second device without values.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, SamplingParams, device_types, fits, placement
from aquila2_runtime.cache_size import cache_blocks
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.attention.split import plan_on
from aquila2_runtime.engine.decoder import Decoder
from aquila2_runtime.engine.planner import Planner
from aquila2_runtime.engine.scheduler import Scheduled
from aquila2_runtime.engine.stages import stages_of
from aquila2_runtime.errors import InsufficientMemoryError, InvalidLoadOptionError
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.model_parts import make_caches, split_attention
from aquila2_runtime.registry import models
from tests.adapters import ALL, random_adapter
from tests.engine.paper_model import make_request
from tests.fixtures_checkpoint import make_checkpoint
from tests.runtime.support import ask
from tests.untrained import untrained_copy

CPU = torch.device("cpu")
MIB = 2**20
LONG = "The sea is wide, and the hills behind the small town are old. " * 6
PROMPTS = [LONG[at:] for at in range(0, 120, 40)]
PARAMS = [
    SamplingParams(temperature=0, max_tokens=12, logprobs=2, prompt_logprobs=1),
    SamplingParams(temperature=1.0, seed=5, max_tokens=12),
]


@pytest.fixture(scope="module")
def own(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's shapes with random weights, shared with no other test."""
    return untrained_copy(demo_path, tmp_path_factory.mktemp("several") / "model")


@pytest.fixture(scope="module")
def adapter(own: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("several-adapter") / "noise"
    return str(random_adapter(Path(own), folder, seed=3, size=0.2, target_modules=list(ALL)))


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two devices with so much free memory each; the list may be changed."""
    free = [900 * MIB, 900 * MIB]
    monkeypatch.setattr(device_types, "visible_gpus", lambda: (CPU, CPU))
    monkeypatch.setattr(fits, "free_memory", lambda devices: free[: len(devices)])
    yield free


def needs(path: str, **options: Any) -> int:
    """Bytes of the whole model on one device."""
    asked = LoadOptions(model=path, device="cpu", **options)
    config = read_config(Path(path))
    chosen = placement.choose(asked, config)
    return placement.estimate(asked, config, chosen, config.max_position).total


def answers(
    runtime: Aquila2Runtime, adapter: str | None = None
) -> tuple[list[tuple[int, ...]], list[float]]:
    """Greedy and drawn answers, prompts that share a beginning, many at once.

    Ids, and log-probabilities: whose last digits may depend on which requests met in a step.
    """
    ids: list[tuple[int, ...]] = []
    scores: list[float] = []
    for params in PARAMS:
        prompts = [*PROMPTS, LONG + "Who?", LONG + "Where?"]
        outputs = [runtime.complete(prompt, params, adapter=adapter) for prompt in prompts[:2]]
        outputs += runtime.complete_batch(prompts, params, adapter=adapter)
        ids += [out.token_ids for out in outputs]
        for out in outputs:
            scores += [one.logprob for one in out.logprobs or ()]
            scores += [one.logprob for one in out.prompt_logprobs or () if one is not None]
    return ids, scores


def test_ids_and_probabilities_are_those_of_one_device(
    own: str, adapter: str, two: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {
        "template": "aquila-v1",
        "adapters": {"noise": adapter},
        "speculation": "ngram",
    }
    with Aquila2Runtime.load(own, device="cpu", **options) as runtime:
        right = [answers(runtime, None), answers(runtime, "noise")]
        chats = [out.text for out in runtime.chat_batch([ask(at) for at in range(4)], PARAMS[1])]
    whole = needs(own)
    two[:] = [whole * 2 // 3, whole * 2 // 3]
    with (
        caplog.at_level(logging.INFO, "aquila2_runtime"),
        Aquila2Runtime.load(own, device="auto", **options) as runtime,
    ):
        found = [answers(runtime, None), answers(runtime, "noise")]
        again = [out.text for out in runtime.chat_batch([ask(at) for at in range(4)], PARAMS[1])]
        assert again == chats
        assert runtime.info.device == "cpu, cpu"
        assert "layers on cpu" in runtime.info.reasons["device"]
        assert runtime.info.cuda_graphs is False
        assert "several devices" in runtime.info.reasons["cuda_graphs"]
    assert "several devices" in caplog.text
    assert [ids for ids, _ in found] == [ids for ids, _ in right]
    assert right[0][0] != right[1][0]
    for (_, scores), (_, wanted) in zip(found, right, strict=True):
        assert len(scores) > 100
        assert scores == pytest.approx(wanted, abs=1e-4)


def test_auto_takes_one_device_where_the_model_fits_there(own: str, two: list[int]) -> None:
    two[:] = [needs(own) - 1, needs(own)]
    with Aquila2Runtime.load(own, template="aquila-v1") as runtime:
        assert runtime.info.device == "cpu"
        assert runtime.info.reasons["device"] == "the model fits on this one"
    assert not any(key[0] == own for key in models._models)


def test_a_list_is_taken_as_it_is_and_shares_its_weights(own: str, two: list[int]) -> None:
    two[:] = [needs(own), needs(own)]
    devices = ["cuda:0", "cuda:1"]
    with Aquila2Runtime.load(own, device=devices, template="aquila-v1") as first:
        assert first.info.device == "cpu, cpu"
        # What is loaded already is not measured again: nothing would be free by now.
        two[:] = [0, 0]
        with Aquila2Runtime.load(own, device=tuple(devices), template="aquila-v1") as second:
            assert second._use.model is first._use.model


def test_what_does_not_fit_on_all_of_them_is_refused_with_what_would(
    own: str, two: list[int]
) -> None:
    two[:] = [MIB, MIB]
    with pytest.raises(InsufficientMemoryError) as caught:
        Aquila2Runtime.load(own, template="aquila-v1")
    assert "1.0 MiB and 1.0 MiB are free" in caught.value.message
    whole = needs(own)
    two[:] = [whole // 3, whole // 3]
    with pytest.raises(InsufficientMemoryError, match="What fits") as caught:
        Aquila2Runtime.load(own, template="aquila-v1", max_num_seqs=64)
    assert "tokens" in str(caught.value.hint)


def test_captured_steps_cannot_be_asked_for_over_several(own: str, two: list[int]) -> None:
    with pytest.raises(InvalidLoadOptionError) as caught:
        Aquila2Runtime.load(own, device=["cuda:0", "cuda:1"], cuda_graphs=True)
    assert caught.value.parameter == "cuda_graphs"


@pytest.mark.parametrize(
    "device", [[], ["cpu", "cuda:0"], ["cuda:0", "cuda:0"], ["auto"], ["cuda"], [1], [["cuda:0"]]]
)
def test_a_list_names_different_gpus(device: Any) -> None:
    with pytest.raises(InvalidLoadOptionError) as caught:
        LoadOptions(model="aquila2-demo", device=device)
    assert caught.value.parameter == "device"
    assert LoadOptions(model="aquila2-demo", device=["cuda:1"]).device == "cuda:1"
    asked = LoadOptions(model="aquila2-demo", device=["cuda:1", "cuda:0"])
    assert asked.device == ("cuda:1", "cuda:0")
    assert hash(asked) == hash(LoadOptions(model="aquila2-demo", device=("cuda:1", "cuda:0")))


def test_each_device_holds_its_own_layers_keys_and_the_fullest_decides(own: str) -> None:
    config = read_config(Path(own))
    options = LoadOptions(model=own, device="cpu")
    # Only there is the cache as large as what is left.
    one = dataclasses.replace(placement.choose(options, config), device=torch.device("cuda"))
    spread = dataclasses.replace(one, stages=stages_of([CPU, CPU], [2, config.num_layers - 2]))
    caches = make_caches(config, spread, 8)
    assert [len(cache.keys) for cache in caches] == [2, config.num_layers - 2]
    length, layers, rest = config.max_position, config.num_layers, config.num_layers - 2
    for free in ([20 * MIB, 1000 * MIB], [1000 * MIB, 10 * rest * MIB]):
        blocks, _ = cache_blocks(options, config, spread, free, length)
        # As on one device with the same bytes free for every layer.
        same = min(free[0] * layers // 2, free[1] * layers // rest)
        alone, _ = cache_blocks(options, config, one, same, length)
        assert abs(blocks - alone) <= 1
        assert blocks < 100_000


def meta_stages(layers: int) -> Any:
    return stages_of([CPU, torch.device("meta")], [1, layers - 1])


def test_everything_a_layer_needs_is_brought_to_its_device(tmp_path: Path) -> None:
    """Operations refuse to mix devices, and one without values counts as a device."""
    path = make_checkpoint(tmp_path, num_key_value_heads=2, num_hidden_layers=3)
    config = read_config(path)
    model = load_weights(path, config, dtype=torch.float32, device=CPU)
    for module in (*model.model.layers[1:], model.model.norm, model.lm_head):
        module.to("meta")
    # A layer's first norm is computed at the end of the layer before, wherever that is.
    for layer in model.model.layers[1:]:
        layer.input_layernorm = torch.nn.RMSNorm(config.hidden_size)
    stages = meta_stages(config.num_layers)
    decoder = Decoder(model, config, 64, stages=stages)
    options = LoadOptions(model=str(path), device="cpu", attention="gathered")
    spread = dataclasses.replace(placement.choose(options, config), stages=stages)
    attention = split_attention(make_caches(config, spread, 80), spread)
    assert attention.cascades
    assert not attention.reads_lengths
    pairs = {
        (layer, part): (torch.zeros(2, into), torch.zeros(out, 2))
        for layer in range(config.num_layers)
        for part, into, out in (("q_proj", 32, 32), ("down_proj", 48, 32))
    }
    decoder.adapters.add("mine", pairs, 1.0)
    planner = Planner(16, CPU, cascades=True)
    order = scheduled()
    rows = sum(item.rows for item in order)
    hidden = decoder.forward(
        torch.arange(rows),
        torch.arange(rows),
        attention,
        planner.plan(order),
        decoder.adapters.step([("mine", 1), (None, rows - 1)]),
    )
    assert hidden.device.type == "meta"
    assert hidden.shape == (rows, config.hidden_size)
    assert decoder.logits(hidden).shape == (rows, config.vocab_size)


def test_every_tensor_of_a_plan_is_brought_along() -> None:
    plan = Planner(16, CPU, cascades=True).plan(scheduled())
    assert plan.shared
    assert plan.prefills
    brought = plan_on(plan, torch.device("meta"))
    own, others = tensors_in(plan), tensors_in(brought)
    assert len(own) == len(others) >= 6
    assert {tensor.device.type for tensor in others} == {"meta"}
    assert [tensor.shape for tensor in own] == [tensor.shape for tensor in others]


def tensors_in(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    return (
        [found for item in value for found in tensors_in(item)]
        if isinstance(value, list | tuple)
        else []
    )


def scheduled() -> list[Scheduled]:
    """Two decoding requests that share many blocks, and a chunk of a prompt behind others."""
    found = []
    shared = list(range(1, 66))
    for number, (blocks, start, count) in enumerate(
        [([*shared, 70], 1044, 1), ([*shared, 71], 1045, 1), ([72, 73], 16, 9)]
    ):
        # The newest token of a decoding request is of its answer.
        request = make_request(number, [1] * (start + count - (count == 1)))
        request.token_ids += [1] * (count == 1)
        request.blocks = blocks
        found.append(Scheduled(request, start, count))
    return found

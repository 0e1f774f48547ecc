"""What only a GPU can show: captured steps, compiled kernels against references, real memory."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams, placement
from aquila2_runtime.checkpoint.config import read_config
from aquila2_runtime.checkpoint.convert import convert_checkpoint
from aquila2_runtime.checkpoint.weights import load_weights
from aquila2_runtime.engine.attention.plan import PrefillSegment
from aquila2_runtime.engine.attention.varlen import flash_varlen, pack, sdpa_varlen
from aquila2_runtime.engine.faults import empty_device_cache
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.model_parts import make_decoder
from tests.engine.engines import make_engine, make_model, mixed_requests, serve
from tests.engine.kernels import relative
from tests.fixtures_checkpoint import make_checkpoint
from tests.untrained import untrained_copy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZES = {"hidden_size": 128, "intermediate_size": 192}  # heads of 32, which the kernels take


@pytest.mark.parametrize("blocks", [400, 40])
def test_captured_steps_give_the_plain_runners_ids(tmp_path: Path, blocks: int) -> None:
    """Greedy and drawn, mixed with what is not captured; with preemption in the small pool."""
    pytest.importorskip("triton")
    from aquila2_runtime.engine.attention.paged import PagedAttention

    model = make_model(tmp_path / "tiny", "cuda", fused=True, **SIZES)
    attention = functools.partial(PagedAttention, varlen=sdpa_varlen)
    requests = mixed_requests(24, 1)
    right = serve(make_engine(model, ahead=False, attention=attention), requests)
    engine = make_engine(model, ahead=True, attention=attention, capture=True, blocks=blocks)
    assert serve(engine, requests) == right


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flash_attention_aligns_chunks_to_their_last_row(dtype: torch.dtype) -> None:
    """Chunks without and with earlier context, of grouped heads, beside each other."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("FlashAttention-2 needs compute capability 8.0")
    counts, contexts = (33, 64, 5), (33, 200, 69)
    generator = torch.Generator("cuda").manual_seed(1)

    def draw(rows: int, heads: int) -> torch.Tensor:
        return torch.randn(rows, heads, 128, generator=generator, device="cuda").to(dtype)

    query, key, value = draw(sum(counts), 6), draw(sum(contexts), 2), draw(sum(contexts), 2)
    segments, row = [], 0
    for count, context in zip(counts, contexts, strict=True):
        blocks = torch.arange(-(-context // 16), device="cuda")
        segments.append(PrefillSegment(row, count, context, blocks))
        row += count
    packed = pack(segments, 16)
    right = sdpa_varlen(query.float(), key.float(), value.float(), packed)
    assert relative(flash_varlen(query, key, value, packed), right) < 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_chunks_of_grouped_heads_do_not_make_all_scores_at_once(dtype: torch.dtype) -> None:
    """The 34B's heads by torch's attention, behind earlier context: 3 GiB of scores in fp32."""
    count, context = 2_048, 8_192
    query = torch.randn(count, 48, 128, device="cuda").to(dtype)
    key, value = (torch.randn(context, 8, 128, device="cuda").to(dtype) for _ in range(2))
    blocks = torch.arange(context // 16, device="cuda")
    packed = pack([PrefillSegment(0, count, context, blocks)], 16)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    mixed = sdpa_varlen(query, key, value, packed)
    assert torch.cuda.max_memory_allocated() - before < 2**30
    for row, head in ((0, 0), (1_000, 17), (2_047, 47)):
        seen = context - count + row + 1
        scores = key[:seen, head // 6].float() @ query[row, head].float() * 128**-0.5
        right = scores.softmax(0) @ value[:seen, head // 6].float()
        assert relative(mixed[row, head], right) < 1e-2


@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
@pytest.mark.parametrize(("heads", "kv_heads"), [(32, 32), (48, 8), (64, 8)])
def test_decoding_at_the_released_sizes_equals_fp32(heads: int, kv_heads: int, stored: str) -> None:
    """7B, 34B and 70B heads over ragged contexts, every number of splits."""
    pytest.importorskip("triton")
    from aquila2_runtime.engine.attention.paged_decode import paged_decode
    from tests.engine.kernels import random_cache

    lengths = torch.tensor([1, 16, 17, 700, 4_096], device="cuda", dtype=torch.int32)
    blocks = 300
    cache = random_cache(
        blocks=blocks, kv_heads=kv_heads, head_dim=128, dtype=getattr(torch, stored)
    )
    tables = torch.randint(1, blocks, (5, 256), device="cuda")
    query = torch.randn(5, heads, 128, device="cuda").bfloat16()
    scales = (cache.key_scales[0], cache.value_scales[0]) if cache.scaled else (None, None)
    for splits in (1, 2, 8, 32):
        found = paged_decode(
            query, cache.keys[0], cache.values[0], tables, lengths, splits=splits,
            key_scales=scales[0], value_scales=scales[1],
        )  # fmt: skip
        for row, length in enumerate(lengths.tolist()):
            keys, values = cache.gather(0, tables[row])
            keys, values = (part.flatten(1, 2)[:, :length].float() for part in (keys, values))
            keys, values = (part.repeat_interleave(heads // kv_heads, 0) for part in (keys, values))
            scores = torch.einsum("hd,htd->ht", query[row].float(), keys) * 128**-0.5
            right = torch.einsum("ht,htd->hd", scores.softmax(-1), values)
            assert relative(found[row], right) < 1e-2, f"{splits} splits, {length} tokens"


def test_nf4_products_are_near_those_of_the_unpacked_weights() -> None:
    """Within 0.5 % of an fp32 product, at every number of rows the engine uses."""
    bnb = pytest.importorskip("bitsandbytes")
    from aquila2_runtime.engine.joined_nf4 import join_nf4

    parts = []
    for _ in range(3):
        module = bnb.nn.Linear4bit(
            4096, 4096, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4"
        )
        parts.append(module.to("cuda"))
    for copy in (False, True):
        joined = join_nf4(parts, copy=copy)
        assert joined is not None
        weight = bnb.functional.dequantize_4bit(joined._packed, joined._state).float()
        for rows in (1, 4, 8, 32, 64, 512):
            states = torch.randn(rows, 4096, device="cuda").bfloat16()
            assert relative(joined(states), states.float() @ weight.t()) < 5e-3, f"{rows} rows"


def test_a_loaded_runtime_captures_steps_and_holds_what_it_says(
    demo_model: str, demo_path: Path
) -> None:
    """The demo checkpoint on CUDA: the choices, the same text alone and together, and memory."""
    template = None if demo_model == "aquila2-demo" else "aquila-v1"
    question = [Message("user", "The museum opens at 9. When does it open?")]
    params = SamplingParams(temperature=0.7, top_p=0.9, seed=3, max_tokens=24)
    options = {"device": "cuda", "template": template, "dtype": "float32", "max_num_seqs": 8}
    with Aquila2Runtime.load(demo_model, **options, cuda_graphs=False) as runtime:
        right = runtime.chat(question, params).token_ids
    with Aquila2Runtime.load(demo_model, **options) as runtime:
        assert runtime.info.attention == "paged"
        assert runtime.info.cuda_graphs, runtime.info.reasons["cuda_graphs"]
        assert runtime.chat(question, params).token_ids == right
        together = runtime.chat_batch([question] * 5, params)
        assert {output.token_ids for output in together} == {right}


# The demo's feed-forward has rows of 688 numbers, no whole blocks of 64: bitsandbytes unpacks them.
@pytest.mark.filterwarnings("ignore:inner dimension .* is not aligned:UserWarning")
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
def test_a_checkpoint_loads_on_a_gpu_in_every_form(
    demo_path: Path, tmp_path: Path, quantization: str | None, stored: bool
) -> None:
    """Packed as it loads, and packed before; alone and beside others."""
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    elif stored:
        pytest.skip("nothing is packed")
    path = untrained_copy(demo_path, tmp_path / "model")
    if stored:
        convert_checkpoint(
            Path(path), tmp_path / "packed", dtype="float16", quantization=quantization
        )
        path = str(tmp_path / "packed")
    params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    question = [Message("user", "The sea is wide.")]
    options = {"dtype": "float16", "template": "aquila-v1", "quantization": quantization}
    with Aquila2Runtime.load(path, device="cuda:0", **options) as runtime:
        assert runtime.info.device == "cuda:0"
        outputs = [runtime.chat(question, params), *runtime.chat_batch([question] * 5, params)]
        assert [len(output.token_ids) for output in outputs] == [4] * 6


@pytest.mark.parametrize(("quantization", "layers", "most"), [(None, 4, 0.03), ("nf4", 8, 0.07)])
def test_what_fusing_freed_is_given_back(
    tmp_path: Path, quantization: str | None, layers: int, most: float
) -> None:
    """What torch keeps beside what is in use would be lost to the cache.

    Parts that do not fill the allocator's pieces evenly: without being given back one by one they
    would leave 6 % beside weights in 16 bits, and 11 % beside packed ones.
    """
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    path = make_checkpoint(
        tmp_path, layout="safetensors", dtype=torch.bfloat16, hidden_size=4096,
        intermediate_size=8192, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, torch_dtype="bfloat16",
    )  # fmt: skip
    config = read_config(path)
    options = LoadOptions(model=str(path), device="cuda:0", quantization=quantization)
    placed = placement.choose(options, config)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    model = load_weights(
        path, config, dtype=torch.bfloat16, device=placed.device, quantization=quantization
    )
    decoder = make_decoder(model, config, placed)
    del model
    empty_device_cache()
    held = torch.cuda.memory_allocated()
    lost = torch.cuda.memory_reserved() - held - before
    assert lost < most * held, (lost, held)
    assert decoder is not None


def test_the_estimate_is_within_a_twentieth_of_what_is_used() -> None:
    """A quarter of a 7B in bf16, steps captured, after prompts and batches of every kind."""
    pytest.importorskip("triton")
    from benchmarks.gpu_measure import first_token, random_ids, submit
    from benchmarks.gpu_models import random_model, shape, start_engine

    device = torch.device("cuda:0")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    config = dataclasses.replace(shape("7b", 4_096), num_layers=8)
    model = random_model(config, device, torch.bfloat16)
    options = LoadOptions(model="random", device="cuda:0", max_num_seqs=32)
    bench = start_engine(model, config, options, 4_096, most_tokens=40_000)
    first_token(bench.engine, random_ids(4_000, config.vocab_size, 1))
    handles = [
        submit(bench.engine, random_ids(500, config.vocab_size, seed), 40, greedy=seed % 2 == 0)
        for seed in range(32)
    ]
    for handle in handles:
        while handle.read().finished is None:
            pass
    peak = torch.cuda.max_memory_reserved(device)
    bench.engine.close()
    assert abs(bench.estimate.used - peak) < 0.05 * peak, (bench.estimate.table(), peak)

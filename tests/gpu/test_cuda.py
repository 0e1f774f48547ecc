"""What only a GPU can show: captured steps, compiled kernels against references, real memory."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.engine.attention.plan import PrefillSegment
from aquila2_runtime.engine.attention.varlen import flash_varlen, pack, sdpa_varlen
from tests.engine.engines import make_engine, make_model, mixed_requests, serve
from tests.engine.kernels import relative

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

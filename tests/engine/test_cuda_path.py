"""The whole of the CUDA path but the capture, on CPU: interpreted kernels under static steps."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from aquila2_runtime.sampling import SamplingParams
from tests.engine.engines import make_engine, make_model, request, serve

pytest.importorskip("triton", reason="Triton is not there; it exists on Linux only")


@pytest.mark.parametrize("kv_dtype", [torch.float32, torch.int8])
def test_paged_kernels_under_static_steps_give_the_references_ids(
    tmp_path: Path, kv_dtype: torch.dtype
) -> None:
    """Grouped heads, a prompt in two chunks; greedy, drawn, and one that no static step serves."""
    from aquila2_runtime.engine.attention.paged import PagedAttention
    from aquila2_runtime.engine.attention.varlen import sdpa_varlen

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    requests = [
        request(list(range(1, 22)), max_tokens=5, stops=()),
        request([7, 8], SamplingParams(temperature=1.0, top_p=0.9), max_tokens=6, stops=()),
        request([9], SamplingParams(temperature=0.0, logprobs=0), max_tokens=4, stops=()),
    ]
    plain = make_model(tmp_path / "plain", **sizes)
    right = serve(make_engine(plain, ahead=False, step_tokens=16, kv_dtype=kv_dtype), requests)
    fused = make_model(tmp_path / "fused", fused=True, **sizes)
    engine = make_engine(
        fused, ahead=True, step_tokens=16, kv_dtype=kv_dtype, max_num_seqs=4, max_len=40,
        attention=functools.partial(PagedAttention, varlen=sdpa_varlen),
    )  # fmt: skip
    assert serve(engine, requests) == right

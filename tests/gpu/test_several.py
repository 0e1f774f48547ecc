"""What only two GPUs can show: layers spread over them, with the ids of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from tests.untrained import untrained_copy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
TEXTS = ["The sea is wide. " * count for count in (1, 30, 7, 90, 2, 11)]


# The demo's feed-forward has rows of 688 numbers, no whole blocks of 64: bitsandbytes unpacks them.
@pytest.mark.filterwarnings("ignore:inner dimension .* is not aligned:UserWarning")
@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
def test_two_gpus_give_what_one_gives(
    demo_path: Path, tmp_path: Path, quantization: str | None
) -> None:
    if quantization is not None:
        pytest.importorskip("bitsandbytes")
    path = untrained_copy(demo_path, tmp_path / "model")
    asked = [[Message("user", text)] for text in TEXTS]
    found = []
    for device in ("cuda:0", ["cuda:0", "cuda:1"]):
        with Aquila2Runtime.load(
            path,
            device=device,
            quantization=quantization,
            dtype="float32",
            template="aquila-v1",
            # Captured steps are another order of additions.
            cuda_graphs=False,
        ) as runtime:
            outputs = []
            for params in (
                SamplingParams(temperature=0, max_tokens=24, logprobs=1),
                SamplingParams(temperature=1.0, seed=3, max_tokens=24),
            ):
                outputs += runtime.chat_batch(asked, params)
            found.append([out.token_ids for out in outputs])
            held = [torch.cuda.memory_allocated(at) for at in range(2)]
    assert found[0] == found[1]
    assert min(held) > 2**20, "each holds layers and their cache"

"""Numbers that cross to a device are what torch makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aquila2_runtime.engine.crossing import brought


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [([1, 2], None), ([[1.5, 2], [3, 4]], torch.float64), ([], torch.int64), ([7], torch.int32)],
)
def test_numbers_arrive_as_they_are(device: str, values: list[Any], dtype: Any) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    made = brought(values, torch.device(device), dtype)
    right = torch.tensor(values, dtype=dtype, device=device)
    assert made.dtype == right.dtype and made.device.type == device
    assert torch.equal(made, right)

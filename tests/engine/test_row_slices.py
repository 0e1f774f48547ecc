"""Products of packed bfloat16 weights: a row is the same bits in any company, on AMX too."""

from __future__ import annotations

import pytest
import torch

from aquila2_runtime.engine.linear import PackedProjection, linear, packing_of
from aquila2_runtime.engine.row_slices import FEW, sliced

ROWS = (1, 2, 17, 32, 33, 49, 64, 97, 129, 160, 192, 255, 300, 384, 511, 512, 513, 700)


@pytest.mark.skipif(packing_of(torch.bfloat16) is not None, reason="this CPU packs no bfloat16")
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("size", [(256, 688), (192, 512), (384, 1_536), (1_376, 256)])
def test_a_row_is_the_same_beside_any_number_of_others(size: tuple[int, int], threads: int) -> None:
    assert torch.get_num_threads() == threads
    generator = torch.Generator().manual_seed(1)
    project = linear(torch.randn(size, generator=generator).bfloat16())
    states = torch.randn(max(ROWS), size[1], generator=generator).bfloat16()
    alone = torch.cat([project(row) for row in states.split(1)])
    for rows in ROWS:
        assert torch.equal(project(states[:rows]), alone[:rows]), rows
        assert torch.equal(project(states[-rows:]), alone[-rows:]), rows


@pytest.mark.parametrize("many", [0, 64, 512])
@pytest.mark.parametrize("rows", [33, 64, 65, 200, 512, 530, 700, 1_024])
def test_slices_are_of_sizes_that_are_allowed_and_lose_no_row(many: int, rows: int) -> None:
    seen: list[int] = []

    def product(states: torch.Tensor) -> torch.Tensor:
        seen.append(len(states))
        return states * 2

    states = torch.randn(rows, 3)
    assert torch.equal(sliced(product, states, many), states * 2)
    assert all(count <= FEW or count == many for count in seen)


def test_a_weight_with_short_sums_is_multiplied_at_once() -> None:
    project = linear(torch.randn(1_376, 256).bfloat16())
    assert not isinstance(project, PackedProjection) or project.many is None

"""What loading takes, measured in a process of its own, against what was said beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loading import PEAK, extrapolate, row


@pytest.mark.slow
@pytest.mark.parametrize("form", ["none", "int8", "nf4"])
def test_peak_memory_is_near_the_estimate_and_far_below_two_copies(
    tmp_path: Path, form: str
) -> None:
    if form != "none":
        pytest.importorskip("bitsandbytes")
    found = row("1", tmp_path, form, "cpu")
    assert found["peak"] <= PEAK * (found["shard"] + found["final"])
    # Scales are loaded packed, and widened when the engine joins projections.
    assert 0.999 * found["final"] <= found["estimate"] <= 1.06 * found["final"]
    assert found["used"] == pytest.approx(found["estimate"], rel=0.06)
    # Pages are counted from outside; buffers of the size of one weight come on top.
    assert 0.85 * found["estimate"] <= found["peak"] <= found["estimate"] + found["shard"]


def test_the_line_through_several_sizes_is_followed_to_the_34b() -> None:
    rows = [
        {"final": size, "estimate": size, "peak": 1.05 * size + 3e8, "size": 4 * size, "cpu": 1}
        for size in (1e8, 4e8, 8e8)
    ]
    found = extrapolate(rows)
    assert 19 < found["final"] < 22
    assert found["peak"] == pytest.approx(1.05 * found["final"] + 0.3)

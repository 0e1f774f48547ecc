"""``aquila2 bench``: every figure is there and makes sense; how large they are is not tested."""

from __future__ import annotations

import json

from tests.cli.conftest import Run

SHORT = ["--prompt-tokens", "24", "--new-tokens", "4", "--rounds", "1", "--device", "cpu"]


def test_bench_json_has_every_figure(aquila2: Run, demo_flags: list[str]) -> None:
    model = demo_flags[demo_flags.index("--model") + 1]
    done = aquila2("bench", model, *SHORT, "--max-model-len", "256", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["setting"]["new_tokens"] == 4
    assert set(found["tokens_per_second"]) == {"1", "8", "32"}
    assert all(rate > 0 for rate in found["tokens_per_second"].values())
    assert found["latency"]["first_token_ms"] > 0
    assert found["latency"]["between_tokens_ms"] > 0
    assert found["prefix"]["document_tokens"] == 112
    assert found["memory"]["weights_mib"] > 0


def test_bench_prints_lines_and_shortens_what_does_not_fit(
    aquila2: Run, demo_flags: list[str]
) -> None:
    model = demo_flags[demo_flags.index("--model") + 1]
    done = aquila2(
        "bench", model, "--prompt-tokens", "9999", "--new-tokens", "4", "--rounds", "1",
        "--device", "cpu", "--max-model-len", "32",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "prompt_tokens: 28" in done.stdout
    assert "warm_first_token_ms" in done.stdout

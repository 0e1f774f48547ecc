"""Many questions of one document: it is read together, and every answer is the one it has alone."""

from __future__ import annotations

from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.planner import Planner

DOCUMENT = (
    "The museum in Porto opens at 9 and closes at 17. Its two halls show maps and ships. " * 24
)


def _asked(number: int) -> list[Message]:
    return [Message("user", f"{DOCUMENT}\nNumber {number}: what do the halls show?")]


def _params(number: int) -> SamplingParams:
    temperature = 0.8 if number % 3 == 2 else 0.0
    return SamplingParams(
        temperature=temperature, seed=number, max_tokens=12 + number, ignore_eos=True
    )


@pytest.fixture
def prefixes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every planned step, the number of rows that read a prefix together."""
    together: list[int] = []
    original = Planner.plan

    def noted(self: Planner, order: Any) -> AttentionPlan:
        plan = original(self, order)
        together.append(sum(len(prefix.rows) for prefix in plan.shared))
        return plan

    monkeypatch.setattr(Planner, "plan", noted)
    return together


@pytest.mark.parametrize("speculation", [None, "ngram"])
def test_answers_over_a_shared_document_equal_those_alone(
    own_demo: dict[str, str], prefixes: list[int], speculation: str | None
) -> None:
    """C7: to the id, greedy and sampled, for every number of questions at once."""
    numbers = range(10)
    with Aquila2Runtime.load(**own_demo, prefix_cache=False) as alone:
        expected = [alone.chat(_asked(n), _params(n)).token_ids for n in numbers]
    assert set(prefixes) == {0}
    with Aquila2Runtime.load(**own_demo, speculation=speculation) as runtime:
        runtime.chat(_asked(99), _params(0))
        for count in (2, 3, 10):
            prefixes.clear()
            some = list(numbers)[:count]
            outputs = runtime.chat_batch([_asked(n) for n in some], [_params(n) for n in some])
            assert [output.token_ids for output in outputs] == expected[:count]
            assert max(prefixes) >= count

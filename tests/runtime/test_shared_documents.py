"""Many questions of one document: it is read together, and every answer is the one it has alone."""

from __future__ import annotations

from typing import Any

import pytest

from aquila2_runtime import Aquila2Runtime, Message, SamplingParams
from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.planner import Planner

TOLD = "The museum in Porto opens at 9 and closes at 17. Its two halls show maps and ships. "
DOCUMENT = TOLD * 24
# So long that reading it once for all pays on a CPU too.
LONG = TOLD * 30


def _asked(number: int, document: str = DOCUMENT) -> list[Message]:
    return [Message("user", f"{document}\nNumber {number}: what do the halls show?")]


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
        expected = [alone.chat(_asked(n, LONG), _params(n)).token_ids for n in numbers]
    assert set(prefixes) == {0}
    with Aquila2Runtime.load(**own_demo, speculation=speculation) as runtime:
        runtime.chat(_asked(99, LONG), _params(0))
        for count in (2, 8, 10):
            prefixes.clear()
            some = list(numbers)[:count]
            asked = [_asked(n, LONG) for n in some]
            outputs = runtime.chat_batch(asked, [_params(n) for n in some])
            assert [output.token_ids for output in outputs] == expected[:count]
            assert max(prefixes) >= (count if count > 2 else 0)


def test_thirty_two_questions_asked_together_have_their_document_computed_once(
    own_demo: dict[str, str],
) -> None:
    """Counted on the device; every answer is the one without a cache."""
    short = [_params(n).replace(max_tokens=4) for n in range(32)]
    asked = [_asked(n) for n in range(32)]
    with Aquila2Runtime.load(**own_demo, prefix_cache=False) as plain:
        expected = [plain.chat(one, own).token_ids for one, own in zip(asked, short, strict=True)]
    with Aquila2Runtime.load(**own_demo) as runtime:
        outputs = runtime.chat_batch(asked, short)
        stats = runtime.stats()
        assert [output.token_ids for output in outputs] == expected
        used = [output.usage for output in outputs]
        cached = [one.cached_tokens for one in used]
        shared = len(runtime.tokenizer.encode_ordinary(DOCUMENT))
        assert cached[0] == 0
        assert min(cached[1:]) > shared - 32
        assert stats.cached_tokens == sum(cached)
        assert stats.tokens_computed == sum(
            one.prompt_tokens - one.cached_tokens + one.completion_tokens - 1 for one in used
        )
        assert stats.tokens_computed < 2 * used[0].prompt_tokens + 32 * 48
        salted = runtime.chat_batch(asked[:2], short[:2], cache_salt="another tenant")
        assert [output.token_ids for output in salted] == expected[:2]
        assert salted[0].usage.cached_tokens == 0


def test_several_answers_to_one_prompt_have_it_computed_once(own_demo: dict[str, str]) -> None:
    params = SamplingParams(temperature=1.0, seed=5, n=4, max_tokens=6, ignore_eos=True)
    with Aquila2Runtime.load(**own_demo) as runtime:
        out = runtime.chat(_asked(1), params)
        length = out.usage.prompt_tokens
        assert out.usage.cached_tokens == 0
        # The prompt, the three others' last block at most, and the answers.
        assert runtime.stats().tokens_computed <= length + 3 * 16 + 4 * 5
        ones = [runtime.chat(_asked(1), params.replace(n=1, seed=5 + i)) for i in range(4)]
        assert [choice.token_ids for choice in out.choices] == [one.token_ids for one in ones]

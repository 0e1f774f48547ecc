"""Speculation changes how many steps an answer takes, and nothing else about it."""

from __future__ import annotations

from typing import Any

import pytest

from aquila2_runtime import (
    Aquila2Runtime,
    InvalidLoadOptionError,
    Message,
    Regex,
    RequestOutput,
    SamplingParams,
)
from tests.runtime.support import QUESTIONS, ask, idle, wait_until

COPY = (
    "Write this out again: The harbour of Porto has two piers, one lighthouse and four cranes. "
    "The harbour of Porto has two piers, one lighthouse and four cranes. "
    "The harbour of Porto has two piers, one"
)
GREEDY = SamplingParams(temperature=0, max_tokens=48, ignore_eos=True)
KINDS = (
    GREEDY,
    SamplingParams(temperature=0, max_tokens=48),
    SamplingParams(temperature=0.6, seed=5, max_tokens=40, ignore_eos=True),
    SamplingParams(temperature=1.0, top_p=0.8, top_k=40, seed=6, max_tokens=40),
    SamplingParams(temperature=0, repetition_penalty=1.2, max_tokens=40, ignore_eos=True),
    SamplingParams(
        temperature=0.5, seed=7, presence_penalty=0.4, frequency_penalty=0.3, max_tokens=40
    ),
    SamplingParams(temperature=0, min_tokens=30, max_tokens=40),
    SamplingParams(temperature=0, logit_bias={300: 2.0, 301: -4.0}, max_tokens=40),
    SamplingParams(temperature=0, stop=["。", ".", "t"], max_tokens=40, ignore_eos=True),
    SamplingParams(temperature=0.4, seed=8, n=3, max_tokens=24),
)


def _prompts() -> list[list[Message]]:
    return [*(ask(index) for index in (0, 1, 5, 6)), [Message("user", COPY)]]


def _all(runtime: Aquila2Runtime) -> list[RequestOutput]:
    return [runtime.chat(messages, params) for messages in _prompts() for params in KINDS]


def _said(output: RequestOutput) -> tuple[Any, ...]:
    choices = tuple((c.token_ids, c.text, c.finish_reason, c.stop_reason) for c in output.choices)
    return choices, output.usage.prompt_tokens, output.usage.completion_tokens


def test_every_answer_is_the_one_without_speculation(own_demo: dict[str, str]) -> None:
    """Greedy and sampled, with penalties, bias, stops, minima and several answers, to the id."""
    with Aquila2Runtime.load(**own_demo) as plain:
        expected = [_said(output) for output in _all(plain)]
        steps = plain.stats().steps
        assert plain.stats().drafted_tokens == 0
    with Aquila2Runtime.load(**own_demo, speculation="ngram") as runtime:
        assert runtime.info.speculation == "ngram"
        assert [_said(output) for output in _all(runtime)] == expected
        stats = runtime.stats()
        assert stats.drafted_tokens >= stats.accepted_tokens > 0
        assert stats.steps < steps
        together = runtime.chat_batch(_prompts(), GREEDY)
        assert [_said(output) for output in together] == expected[:: len(KINDS)]
        assert wait_until(lambda: idle(runtime))


def test_a_copied_text_takes_far_fewer_steps_and_streams_the_same(
    own_demo: dict[str, str],
) -> None:
    params = GREEDY.replace(max_tokens=120, logprobs=2)
    with Aquila2Runtime.load(**own_demo) as plain:
        expected = plain.complete(COPY, params)
    with Aquila2Runtime.load(**own_demo, speculation="ngram") as runtime:
        before = runtime.stats()
        deltas = list(runtime.stream_complete(COPY, params))
        after = runtime.stats()
        assert [t for delta in deltas for t in delta.token_ids] == list(expected.token_ids)
        assert "".join(delta.text for delta in deltas) == expected.text
        steps = after.steps - before.steps
        accepted = after.accepted_tokens - before.accepted_tokens
        # One step for the prompt, which also gives the first id.
        assert steps == 120 - accepted
        assert accepted > 40
        assert after.tokens_computed - before.tokens_computed == (
            len(expected.prompt_token_ids) + 119
        )
        entries = [entry for delta in deltas for entry in delta.logprobs or ()]
        assert expected.logprobs is not None
        assert [entry.token_id for entry in entries] == list(expected.token_ids)
        for found, wanted in zip(entries, expected.logprobs, strict=True):
            assert found.logprob == pytest.approx(wanted.logprob, abs=1e-3)


def test_what_was_guessed_wrong_is_never_reused(own_demo: dict[str, str]) -> None:
    """Prompts that repeat earlier answers hit the prefix cache and answer as without one."""
    with Aquila2Runtime.load(**own_demo, prefix_cache=False) as plain:
        firsts = [plain.complete(text, GREEDY) for text in (*QUESTIONS, COPY)]
        longer = [[*out.prompt_token_ids, *out.token_ids] for out in firsts]
        expected = [plain.complete(prompt_token_ids=ids, params=GREEDY) for ids in longer]
    with Aquila2Runtime.load(**own_demo, speculation="ngram") as runtime:
        for text in (*QUESTIONS, COPY):
            runtime.complete(text, GREEDY)
        assert runtime.stats().drafted_tokens > runtime.stats().accepted_tokens
        for ids, wanted in zip(longer, expected, strict=True):
            out = runtime.complete(prompt_token_ids=ids, params=GREEDY)
            assert out.usage.cached_tokens > len(ids) - 32
            assert out.token_ids == wanted.token_ids


def test_speculation_outlives_preemption(own_demo: dict[str, str]) -> None:
    params = [
        SamplingParams(temperature=0.5 * (index % 2), seed=index, max_tokens=90, ignore_eos=True)
        for index in range(8)
    ]
    with Aquila2Runtime.load(**own_demo) as roomy:
        expected = [roomy.chat(ask(index), own).token_ids for index, own in enumerate(params)]
        block_bytes = roomy.info.kv_cache_bytes // (roomy.info.kv_cache_tokens // 16 + 1)
    with Aquila2Runtime.load(
        **own_demo, max_model_len=256, kv_cache_memory=21 * block_bytes, speculation="ngram"
    ) as small:
        outputs = small.chat_batch([ask(index) for index in range(8)], params)
        stats = small.stats()
        assert stats.preemptions > 0
        assert stats.accepted_tokens > 0
        assert [output.token_ids for output in outputs] == expected
        assert wait_until(lambda: idle(small))


def test_a_constrained_answer_brings_no_drafts(own_demo: dict[str, str]) -> None:
    pytest.importorskip("llguidance")
    params = SamplingParams(
        temperature=0, max_tokens=40, constraint=Regex(r"(one, two, three, ){3}done")
    )
    with Aquila2Runtime.load(**own_demo, speculation="ngram") as runtime:
        free = runtime.complete(COPY, GREEDY)
        before = runtime.stats().drafted_tokens
        held, beside = runtime.complete_batch([COPY, COPY], [params, GREEDY])
        assert held.text == "one, two, three, " * 3 + "done"
        # Its neighbour goes on guessing.
        assert beside.token_ids == free.token_ids
        drafted = runtime.stats().drafted_tokens
        assert drafted > before
        assert runtime.complete(COPY, params).text == held.text
        assert runtime.stats().drafted_tokens == drafted


def test_speculation_is_a_setting_of_the_shared_model(own_demo: dict[str, str]) -> None:
    with pytest.raises(InvalidLoadOptionError, match="speculation"):
        Aquila2Runtime.load(**own_demo, speculation="medusa")
    with Aquila2Runtime.load(**own_demo) as plain:
        assert plain.info.speculation is None
        with pytest.raises(InvalidLoadOptionError, match="speculation"):
            Aquila2Runtime.load(**own_demo, speculation="ngram")

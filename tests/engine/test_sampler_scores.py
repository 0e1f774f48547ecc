"""Penalties and log-probabilities against formulas written out."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch

from aquila2_runtime.engine.penalties import edit
from aquila2_runtime.engine.sampler import Sampler
from tests.engine.sampler_oracle import row, softmax

VOCAB = 2_000


def logits(rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("repetition", [1.0, 0.5, 1.3])
@pytest.mark.parametrize("presence", [0.0, -1.5, 0.7])
@pytest.mark.parametrize("frequency", [0.0, -0.4, 1.1])
def test_penalties_follow_their_formulas(
    repetition: float, presence: float, frequency: float
) -> None:
    """S13: repetition over prompt and answer, the others over the answer alone, then the bias."""
    pick = random.Random(1)
    prompt = [pick.randrange(VOCAB) for _ in range(60)]
    answer = [pick.choice([*prompt[:20], *range(30)]) for _ in range(50)]
    bias = {prompt[0]: 3.5, 1_999: -100.0, answer[0]: -2.0}
    state = row(
        prompt=prompt,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=bias,
    )
    scores = logits()
    expected = scores[0].tolist()
    counts = Counter(answer)
    for token in {*prompt, *answer}:
        value = expected[token]
        expected[token] = value / repetition if value > 0 else value * repetition
    for token, times in counts.items():
        expected[token] -= presence + frequency * times
    for token, more in bias.items():
        expected[token] += more
    for token in answer:
        edit(scores.clone(), [state])  # as in life: an edit before every accepted token
        state.append(token)
    edit(scores, [state])
    assert scores[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("penalty", [5e-324, 1e-40, 1e-3])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_smallest_repetition_penalties_stay_finite(penalty: float, temperature: float) -> None:
    """S1: a quotient beyond fp32 is no NaN; the repeated ids are what is left."""
    scores = logits().abs()
    scores[0, [3, 4]] = 1e6
    state = row(prompt=[3, 4], repetition_penalty=penalty, temperature=temperature)
    sampled = Sampler(VOCAB, VOCAB).sample(scores, [state])
    assert not sampled.failed
    assert sampled.token_ids[0] in {3, 4}


def test_a_penalty_of_one_row_leaves_the_others_alone() -> None:
    """S13: in one batch."""
    scores = logits(2)
    kept = scores[0].clone()
    edit(scores, [row(prompt=[1, 2]), row(prompt=[1, 2], repetition_penalty=2.0)])
    assert torch.equal(scores[0], kept)
    assert not torch.equal(scores[1, [1, 2]], logits(2)[1, [1, 2]])


def test_logprobs_are_log_softmax_of_the_raw_logits_over_decodable_ids() -> None:
    """R5: whatever penalties, bias, temperature and truncation then do to the choice."""
    scores = logits()
    scores[0, 1_900:] += 40.0
    state = row(
        prompt=[1, 2, 3],
        temperature=0.3,
        top_k=3,
        repetition_penalty=1.5,
        logit_bias={9: 50.0},
        logprobs=20,
    )
    sampled = Sampler(VOCAB, 1_900).sample(scores, [state])
    found = sampled.logprobs[0]
    assert found is not None
    exact = [math.log(p) for p in softmax(scores[0, :1_900].tolist())]
    assert found.token_id == sampled.token_ids[0] == 9
    assert found.logprob == pytest.approx(exact[9], abs=1e-4)
    order = sorted(range(1_900), key=lambda place: -exact[place])[:20]
    assert [token for token, _ in found.top] == order
    assert [value for _, value in found.top] == pytest.approx([exact[i] for i in order], abs=1e-4)


def test_log_probabilities_of_all_ids_sum_to_one() -> None:
    """R5: taken one id at a time."""
    scores = logits()[:, :300]
    found = Sampler(300, 300).prompt_logprobs(scores.expand(300, -1), list(range(300)), 0)
    assert all(entry.top == () for entry in found)
    assert math.fsum(math.exp(entry.logprob) for entry in found) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_prompt_logprobs_list_as_many_as_asked(count: int) -> None:
    """R5: each row predicts the id at its place."""
    scores = logits(7)
    ids = [5, 1_999, 0, 1, 2, 3, 4]
    exact = scores.log_softmax(-1)
    for at, entry in enumerate(Sampler(VOCAB, VOCAB).prompt_logprobs(scores, ids, count)):
        assert entry.token_id == ids[at]
        assert entry.logprob == pytest.approx(float(exact[at, ids[at]]), abs=1e-5)
        assert [value for _, value in entry.top] == pytest.approx(
            exact[at].topk(count).values.tolist(), abs=1e-5
        )


def test_a_row_asks_for_its_own_number_of_logprobs() -> None:
    """R5: also for none at all."""
    rows = [row(logprobs=3), row(), row(logprobs=0), row(logprobs=20)]
    found = Sampler(5, 5).sample(torch.arange(20.0).reshape(4, 5), rows).logprobs
    assert found[1] is None
    # No more can be listed than there are ids.
    assert [len(entry.top) for entry in found if entry is not None] == [3, 0, 5]


@pytest.mark.parametrize("equal", [4, 50, 1_500])
def test_equal_log_probabilities_are_listed_by_id(equal: int) -> None:
    """R5: however many there are; greedy's choice therefore comes first."""
    scores = torch.zeros(1, VOCAB)
    scores[0, VOCAB - equal :] = 2.0
    sampled = Sampler(VOCAB, VOCAB).sample(scores, [row(temperature=0.0, logprobs=4)])
    found = sampled.logprobs[0]
    assert found is not None
    assert [token for token, _ in found.top] == list(range(VOCAB - equal, VOCAB - equal + 4))
    assert sampled.token_ids == [found.top[0][0]]


def test_an_empty_list_of_prompt_ids_has_no_logprobs() -> None:
    assert Sampler(VOCAB, VOCAB).prompt_logprobs(logits()[:0], [], 5) == []

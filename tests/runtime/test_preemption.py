"""A pool too small for the load: requests give way, and nobody's answer changes."""

from __future__ import annotations

from aquila2_runtime import Aquila2Runtime, SamplingParams
from tests.runtime.support import ask, idle, wait_until


def test_preempted_requests_equal_uninterrupted_ones(own_demo: dict[str, str]) -> None:
    """R2: sixteen answers in a cache made for four, id for id those of a roomy one."""
    params = [
        SamplingParams(temperature=0.9 * (index % 2), seed=index, max_tokens=90, ignore_eos=True)
        for index in range(16)
    ]
    with Aquila2Runtime.load(**own_demo, prefix_cache=False) as roomy:
        expected = [roomy.chat(ask(index), own).token_ids for index, own in enumerate(params)]
        block_bytes = roomy.info.kv_cache_bytes // (roomy.info.kv_cache_tokens // 16 + 1)
    # 20 blocks hold 320 tokens: two or three of the sixteen answers at full length.
    with Aquila2Runtime.load(
        **own_demo, max_model_len=256, kv_cache_memory=21 * block_bytes
    ) as small:
        outputs = small.chat_batch([ask(index) for index in range(16)], params)
        assert small.stats().preemptions > 0
        assert [output.token_ids for output in outputs] == expected
        assert wait_until(lambda: idle(small))

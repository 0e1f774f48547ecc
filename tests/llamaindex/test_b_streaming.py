"""Streaming: errors in place of answers, and stop strings; the rest is in the suite."""

from __future__ import annotations

import pytest

from aquila2_runtime import Aquila2Runtime, RequestTimeoutError
from tests.llamaindex.support import (
    ENDPOINTS,
    MakeLLM,
    ask,
    text_of,
    wait_until_idle,
)


class TestBStreaming:
    @pytest.mark.parametrize("endpoint", ENDPOINTS)
    def test_a_failed_request_reaches_the_reader(
        self, make_llm: MakeLLM, demo_runtime: Aquila2Runtime, endpoint: str
    ) -> None:
        """C2: as itself, in every endpoint; nobody hangs."""
        with pytest.raises(RequestTimeoutError):
            ask(make_llm(), endpoint, timeout=1e-9)
        wait_until_idle(demo_runtime)
        assert ask(make_llm(), endpoint, max_tokens=3)

    def test_stop_strings_of_call_and_constructor_add_up(self, make_llm: MakeLLM) -> None:
        text = text_of(ask(make_llm(), "complete", max_tokens=40, ignore_eos=True)[0])
        early, late = text[4:6], text[len(text) // 2 : len(text) // 2 + 3]
        llm = make_llm(stop=[early], max_tokens=40, ignore_eos=True)
        assert text_of(ask(llm, "chat", stop=late)[0]) == text[: text.index(early)]
        assert (
            text_of(ask(make_llm(stop=late), "chat", stop=early, ignore_eos=True)[0])
            == (text[: text.index(early)])
        )

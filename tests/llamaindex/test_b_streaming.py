"""Streaming: errors in place of answers, and stop strings; the rest is in the suite."""

from __future__ import annotations

import re

import pytest

from aquila2_runtime import Aquila2Runtime, Regex, RequestTimeoutError
from tests.llamaindex.support import (
    ENDPOINTS,
    STREAMS,
    MakeLLM,
    ask,
    text_of,
    usage_of,
    wait_until_idle,
)

# Each character is several tokens, and some belong together.
SEVERAL_TOKENS = "🙂👩\u200d🚀𠮷林"


class TestBStreaming:
    @pytest.mark.parametrize("endpoint", STREAMS)
    def test_b3_characters_of_several_tokens_come_whole(
        self, make_llm: MakeLLM, endpoint: str
    ) -> None:
        """D2: no delta holds half a character, and none is lost."""
        held = Regex(re.escape(SEVERAL_TOKENS))
        responses = ask(make_llm(max_tokens=64), endpoint, constraint=held)
        deltas = [response.delta or "" for response in responses]
        assert "".join(deltas) == text_of(responses[-1]) == SEVERAL_TOKENS
        assert not any("\ufffd" in delta for delta in deltas)
        assert usage_of(responses[-1])["completion_tokens"] > len(SEVERAL_TOKENS)

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
        early = text[4:6]
        # What an answer that repeats itself says later on, it may have said before.
        pieces = [text[at : at + 3] for at in range(6, len(text) - 2)]
        late = next(piece for piece in pieces if text.index(piece) > text.index(early) + 1)
        llm = make_llm(stop=[early], max_tokens=40, ignore_eos=True)
        assert text_of(ask(llm, "chat", stop=late)[0]) == text[: text.index(early)]
        assert (
            text_of(ask(make_llm(stop=late), "chat", stop=early, ignore_eos=True)[0])
            == (text[: text.index(early)])
        )

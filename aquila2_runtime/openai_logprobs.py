"""Log-probabilities in the shape of OpenAI's chat completions. It computes none.

The server and the LangChain adapter write them here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aquila2_runtime.outputs import TokenLogprob


def openai_logprobs(
    logprobs: Sequence[TokenLogprob], spell: Callable[[int], list[int] | None]
) -> dict[str, Any]:
    """Return log-probabilities in the shape of OpenAI's chat completions.

    Args:
        logprobs: Of an answer or a piece of one.
        spell: Gives what is said of an id's own bytes, which are half a character where its text
            shows U+FFFD.
    """

    def entry(token_id: int, token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": spell(token_id)}

    return {
        "content": [
            {
                **entry(one.token_id, one.token, one.logprob),
                "top_logprobs": [entry(*likely) for likely in one.top],
            }
            for one in logprobs
        ]
    }

"""The runtime's answers as LangChain's metadata. It knows no model and no prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from langchain_core.messages.ai import InputTokenDetails, UsageMetadata

from aquila2_runtime import FinishReason, Timings, TokenLogprob, Usage


def usage_metadata(usage: Usage) -> UsageMetadata:
    """Return token counts in LangChain's words."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )


def ending(
    *,
    model: str,
    template: str | None,
    reason: FinishReason | None,
    stop_reason: str | int | None,
    timings: Timings | None,
    notices: Sequence[str],
) -> dict[str, Any]:
    """Return the response metadata of a finished answer."""
    return {
        "model_name": model,
        "model_provider": "aquila2",
        "finish_reason": None if reason is None else reason.value,
        "stop_reason": stop_reason,
        "template": template,
        "timings": None if timings is None else dataclasses.asdict(timings),
        "notices": list(notices),
    }


def openai_logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return log-probabilities in the shape of OpenAI's chat completions."""
    return {
        "content": [
            {
                "token": entry.token,
                "logprob": entry.logprob,
                "bytes": list(entry.token.encode("utf-8", "replace")),
                "top_logprobs": [
                    {
                        "token": text,
                        "logprob": logprob,
                        "bytes": list(text.encode("utf-8", "replace")),
                    }
                    for _, text, logprob in entry.top
                ],
            }
            for entry in logprobs
        ]
    }

"""Preparing: submissions are made without holding an event loop up. It knows nothing of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aquila2_runtime.message import Message
from aquila2_runtime.sampling import SamplingParams
from aquila2_runtime.submission import Submission

# A prompt of so much takes an event loop less than a millisecond, which a thread would take too.
BRIEF_CHARACTERS: Final = 512
BRIEF_MESSAGES: Final = 8


async def prepared(
    make: Callable[..., Submission],
    prompt: str | Sequence[Message] | None,
    params: SamplingParams | None,
    request: dict[str, Any],
    *rest: object,
) -> Submission:
    """Make a submission without holding the event loop up: in a thread, unless it is brief.

    Args:
        make: Takes what follows.
        prompt: A text or a conversation; None for ids.
        params: How to choose tokens.
        request: The request's keywords.
        *rest: What else ``make`` takes.
    """
    if _is_brief(prompt, params, request):
        return make(prompt, params, request, *rest)
    return await asyncio.to_thread(make, prompt, params, request, *rest)


def _is_brief(prompt: object, params: object, request: Mapping[str, Any]) -> bool:
    """Whether a prompt is read in the time that asking a thread takes, or nearly."""
    if request.get("tools") or getattr(params, "constraint", None) is not None:
        return False  # grammars may take long to compile
    if isinstance(prompt, str):
        return len(prompt) <= BRIEF_CHARACTERS
    if not isinstance(prompt, (list, tuple)) or len(prompt) > BRIEF_MESSAGES:
        return False
    left = BRIEF_CHARACTERS
    for message in prompt:
        if not isinstance(message, Message) or message.tool_calls:
            return False
        left -= message.characters
    return left >= 0

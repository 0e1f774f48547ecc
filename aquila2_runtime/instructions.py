"""Where a conversation is told of the form its answer shall have. It enforces nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from aquila2_runtime.message import Message


def with_instruction(messages: Sequence[Message], instruction: str) -> list[Message]:
    """Put a line about the answer's form behind the user's last message, after a blank line.

    That message stays where it is while tools are called, so the prompt begins alike in every
    step. Without one, the line follows the system text.
    """
    told = list(messages)
    if not instruction:
        return told
    for role in ("user", "system"):
        for place in reversed(range(len(told))):
            message = told[place]
            if message.role == role:
                content = f"{message.content}\n\n{instruction}" if message.content else instruction
                told[place] = dataclasses.replace(message, content=content)
                return told
    return [Message("system", instruction), *told]

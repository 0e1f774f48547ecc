"""What the runtime tests share: prompts, patience, and a runtime of their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from aquila2_runtime import Aquila2Runtime, Message

QUESTIONS = (
    "The museum opens at 9 in the morning. When does the museum open?",
    "图书馆每天早上八点开门。图书馆几点开门？",
    "My name is Lena Ortiz and I live in Porto.",
    "Hello!",
    "你好！",
    "The parcel weighs 12 kg and its code is QX-417. What is the code?",
    "王小明的电话是 138-2214。王小明的电话是多少？",
    "Say something about the sea, the hills and the small town between them.",
)


def ask(index: int) -> list[Message]:
    """One of the questions as a conversation."""
    return [Message("user", QUESTIONS[index % len(QUESTIONS)])]


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Poll a condition; a guard against hanging, not a measurement."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def idle(runtime: Aquila2Runtime) -> bool:
    """Whether every counter of live work is back at zero."""
    stats = runtime.stats()
    return stats.running == stats.waiting == stats.blocks_in_use == 0

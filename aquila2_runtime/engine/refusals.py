"""What every engine says when it takes no request. It knows no engine."""

from __future__ import annotations

from typing import Final

from aquila2_runtime.errors import EngineBusyError, EngineClosedError

MAX_WAITING: Final = 4_096


def queue_full(most: int) -> EngineBusyError:
    """So many requests are waiting already."""
    return EngineBusyError(
        f"{most} requests are waiting already.",
        hint="Try again later, or send fewer at once.",
    )


def closed(name: str) -> EngineClosedError:
    """The runtime of a model was closed."""
    return EngineClosedError(
        f"The runtime of {name} was closed.", hint="Load the checkpoint again."
    )


def of_another_process(name: str) -> EngineClosedError:
    """The runtime of a model belongs to the process that this one was forked from."""
    return EngineClosedError(
        f"The runtime of {name} was loaded in another process; "
        "its thread does not exist in this forked one.",
        hint='Load the checkpoint here, or start the process with "spawn".',
    )

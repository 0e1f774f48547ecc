"""What several of these tests need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aquila2_runtime.engine.runner import Runner
from aquila2_runtime.engine.torch_engine import TorchEngine
from aquila2_runtime.outputs import FinishReason
from langchain_aquila2 import ChatAquila2

MakeChat = Callable[..., ChatAquila2]


def let_time_pass(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the time limit of every request that has one pass after so many steps.

    However fast or busy a machine is, answers are then cut at the same place.
    """
    ran: list[int] = []
    run, expire = Runner.run, TorchEngine._expire

    def counted(self: Runner, scheduled: Any) -> Any:
        ran.append(len(scheduled))
        return run(self, scheduled)

    def expired(self: TorchEngine, scheduler: Any) -> None:
        if len(ran) >= steps:
            for request in tuple(scheduler.running):
                if request.spec.deadline is not None:
                    self._end(scheduler, request, FinishReason.TIMEOUT)
                    ran.clear()
        expire(self, scheduler)

    monkeypatch.setattr(Runner, "run", counted)
    monkeypatch.setattr(TorchEngine, "_expire", expired)

"""A real runtime over an engine that answers without a model, and writes down what it was asked.

Prompts are rendered, limits checked and answers turned into text as ever; only the forward pass is
missing, so that a thousand prompts of two thousand tokens take seconds.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from types import SimpleNamespace
from typing import Any

from aquila2_runtime import Aquila2Runtime
from aquila2_runtime.engine.base import Engine, EngineRequest, EngineStats, Finished, Started
from aquila2_runtime.engine.handle import Mailbox, RequestHandle
from aquila2_runtime.outputs import FinishReason
from aquila2_runtime.templates import Template
from aquila2_runtime.tokenizer import Aquila2Tokenizer

SENTENCES = (
    "The harbour office in Rotterdam moved to the third floor in March. ",
    "图书馆在三月份搬到了新的大楼，读者可以从东门进入。",
    "def add(first: int, second: int) -> int:\n    return first + second\n",
    "Yes.\n\n1. 北京\n2. Lisbon\n",
)


class ScriptedEngine(Engine):
    """Answers every request at once with prose of a random length, often as long as allowed.

    Attributes:
        asked: What was submitted, in order.
        script: What to answer next instead of prose, in order; constraints are not heeded.
        reason: Why what is scripted ends; by itself unless it says otherwise.
        failure: What every answer ends with, after its first token, instead of its end.
    """

    def __init__(self, tokenizer: Aquila2Tokenizer, seed: int) -> None:
        self.asked: list[EngineRequest] = []
        self.script: list[str] = []
        self.reason = FinishReason.STOP
        self.failure: Exception | None = None
        self._tokenizer = tokenizer
        self._ids = itertools.count(1)
        self._random = random.Random(seed)
        self._prose = [tokenizer.encode_ordinary(text) for text in SENTENCES]

    def submit(self, request: EngineRequest) -> RequestHandle:
        self.asked.append(request)
        mailbox = Mailbox(quiet=request.quiet, bell=request.bell)
        handle = RequestHandle(self, next(self._ids), mailbox)
        most = request.max_tokens
        count = most if self._random.random() < 0.5 else self._random.randint(1, most)
        tokens = itertools.cycle(self._random.choice(self._prose))
        if self.script:
            spelt = self._tokenizer.encode_ordinary(self.script.pop(0))
            tokens, count = iter(spelt), len(spelt)
        mailbox.start(Started(0, 0.0, 0.0))
        if self.failure is not None:
            mailbox.put(next(tokens), None)
            mailbox.fail(self.failure)
            return handle
        for token_id in itertools.islice(tokens, count):
            mailbox.put(token_id, None)
        mailbox.finish(Finished(FinishReason.LENGTH if count == most else self.reason))
        return handle

    def abort(self, request_id: int) -> None:
        """Nothing runs."""

    def stats(self) -> EngineStats:
        return EngineStats()

    def close(self) -> None:
        """Nothing is held."""

    @property
    def healthy(self) -> bool:
        return True


def scripted_runtime(
    runtime: Aquila2Runtime,
    max_model_len: int,
    seed: int,
    *,
    template: Template | None = None,
    tokenizer: Aquila2Tokenizer | None = None,
) -> tuple[Aquila2Runtime, ScriptedEngine]:
    """A runtime like another one, with a length, template or tokenizer of its own, and no model."""
    prompts = dataclasses.replace(runtime._prompts, max_model_len=max_model_len)
    info = dataclasses.replace(runtime.info, max_model_len=max_model_len)
    if template is not None:
        prompts = dataclasses.replace(prompts, template=template)
        info = dataclasses.replace(info, template=template.name)
    if tokenizer is not None:
        prompts = dataclasses.replace(prompts, tokenizer=tokenizer)
    engine = ScriptedEngine(prompts.tokenizer, seed)
    use: Any = SimpleNamespace(model=SimpleNamespace(engine=engine), give_back=lambda: None)
    return Aquila2Runtime(use, prompts, info), engine

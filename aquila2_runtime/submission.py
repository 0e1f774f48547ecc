"""Submission: one caller's request, checked and ready for an engine. It reads no answers itself."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.companions import announced
from aquila2_runtime.demands import Demands
from aquila2_runtime.engine.base import Engine, EngineRequest
from aquila2_runtime.errors import InvalidRequestError, InvalidSamplingParamsError
from aquila2_runtime.generation import Answer
from aquila2_runtime.prompts import Prompt, PromptMaker, check_room
from aquila2_runtime.reading import Teller, tellers
from aquila2_runtime.request_options import RequestOptions
from aquila2_runtime.sampling import SamplingParams
from aquila2_runtime.shown import shown
from aquila2_runtime.tool_parser import ToolCallParser

if TYPE_CHECKING:
    from aquila2_runtime.engine.handle import RequestHandle
    from aquila2_runtime.load_options import Progress
    from aquila2_runtime.message import Message
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

# Of the context, most that is kept for an answer without max_tokens where a prompt is shortened.
_ANSWER_SHARE: Final = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A prompt, what to do with it, and for how long.

    Attributes:
        prompt: Ids and notices.
        params: With token ids checked.
        max_tokens: Most new tokens.
        stop_ids: Every id that ends the answer.
        cache_key: Who may share cached prefixes with whom.
        adapter: The engine's key of the adapter; None for the base model.
        timeout: Seconds; None for no limit.
        progress: Called while long prompts are read; None for never.
        demands: What the answer must look like.
    """

    prompt: Prompt
    params: SamplingParams
    max_tokens: int
    stop_ids: frozenset[int]
    cache_key: tuple[str, ...]
    adapter: str | None
    timeout: float | None
    demands: Demands
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        prompts: PromptMaker,
        *,
        messages: Sequence[Message] | None = None,
        text: str | None = None,
        token_ids: Sequence[int] = (),
        params: SamplingParams | None = None,
        request: Mapping[str, Any],
    ) -> Submission:
        """Check a request completely; afterwards only the engine can fail it.

        Raises:
            InvalidRequestError: Something about it is wrong.
        """
        options = RequestOptions.from_kwargs(**request)
        checked = SamplingParams() if params is None else params
        if not isinstance(checked, SamplingParams):
            raise InvalidSamplingParamsError(
                f"params must be SamplingParams, not {type(checked).__name__}.",
                parameter="params",
            )
        tokenizer = prompts.tokenizer
        _check_ids(checked, tokenizer.n_vocab)
        adapter = _adapter_key(options.adapter, prompts.adapters)
        if messages is None:
            options.refuse_for_text()
        demands = Demands.of(tokenizer, checked, options)
        if messages is not None:
            room, least = _answer_room(checked, options, prompts.max_model_len)
            prompt = prompts.chat(
                messages, options.fit, room=room, least=least, tools=demands.shown
            )
        elif text is not None:
            prompt = prompts.text(text)
        else:
            prompt = prompts.ids(token_ids)
        room = _room_behind(prompt, checked, options, prompts.max_model_len)
        demands.check_room(room)
        prompt = dataclasses.replace(prompt, notices=(*prompt.notices, *demands.notices))
        stop_ids = frozenset(checked.stop_ids) if demands.grammar is None else frozenset()
        if not checked.ignore_eos:
            # A control id in an answer means that the turn is over, whichever it is.
            stop_ids |= {tokenizer.eos_token_id, *tokenizer.control_ids.values()}
        return cls(
            prompt=prompt,
            params=checked,
            max_tokens=room,
            stop_ids=stop_ids,
            cache_key=_cache_key(options.cache_salt, adapter),
            adapter=adapter,
            timeout=options.timeout,
            progress=options.progress,
            demands=demands,
        )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings that apply."""
        return self.params.stop_strings if self.demands.free_text else ()

    def answer(
        self, tokenizer: Aquila2Tokenizer, request: EngineRequest, teller: Teller | None
    ) -> Answer:
        """What reads one of the engine's requests; ``teller`` hears how far its prompt is read."""
        tools = self.demands.tools
        return Answer(
            tokenizer,
            request,
            self.prompt.notices,
            teller,
            stop=self.stop_strings,
            drop_space=self.prompt.leaves_space and self.demands.free_text,
            calls=ToolCallParser([tool.name for tool in tools], leading=not self.demands.free_text)
            if tools
            else None,
        )

    def engine_requests(
        self,
        eos_token_id: int,
        *,
        began: float,
        read_along: bool,
        bell: threading.Event | None = None,
    ) -> list[EngineRequest]:
        """One engine request per answer asked for; the i-th has seed + i.

        Args:
            eos_token_id: The end-of-text id.
            began: ``time.monotonic()`` from which the time limit counts.
            read_along: Whether somebody reads the answer as it is made.
            bell: Rung when there is news.
        """
        params = self.params
        seed = secrets.randbits(63) if params.seed is None else params.seed
        deadline = None if self.timeout is None else began + self.timeout
        companions = announced()
        if companions is not None:
            companions.add(params.n - 1)
        # Of n answers the first describes the prompt. Each that did would read all of it again, for
        # of a cached prefix there are no logits.
        others = params
        if params.n > 1 and params.prompt_logprobs is not None:
            others = params.replace(prompt_logprobs=None)
        form = self.demands.form(params.constraint)
        return [
            EngineRequest(
                prompt_token_ids=self.prompt.token_ids,
                params=others if index else params,
                max_tokens=self.max_tokens,
                seed=seed + index,
                stop_ids=self.stop_ids,
                eos_token_id=eos_token_id,
                cache_key=self.cache_key,
                adapter=self.adapter,
                deadline=deadline,
                read_along=read_along,
                # Stop strings are found by the reader, who must then see every token at once.
                quiet=not (read_along or self.stop_strings or self.progress is not None),
                bell=bell,
                # Of n answers to one prompt, the first tells.
                tell_prefill=self.progress is not None and index == 0,
                constraint=self.demands.state(self.max_tokens),
                form=form,
                companions=companions,
            )
            for index in range(params.n)
        ]


def submit_one(
    engine: Engine, tokenizer: Aquila2Tokenizer, submission: Submission
) -> tuple[RequestHandle, Answer]:
    """Submit a request that will be read along.

    Raises:
        InvalidSamplingParamsError: More than one answer is asked for.
    """
    if submission.params.n != 1:
        raise InvalidSamplingParamsError(
            f"n={submission.params.n}: a stream carries one answer.",
            parameter="n",
            value=submission.params.n,
            hint="Stream n requests, or read the n answers whole.",
        )
    (request,) = submission.engine_requests(
        tokenizer.eos_token_id, began=time.monotonic(), read_along=True
    )
    (teller,) = tellers(submission.progress, [len(submission.prompt.token_ids)])
    return engine.submit(request), submission.answer(tokenizer, request, teller)


def _answer_room(
    params: SamplingParams, options: RequestOptions, max_model_len: int
) -> tuple[int, int]:
    """Tokens that shortening should leave for the answer, and those that it must."""
    if params.max_tokens is not None:
        return params.max_tokens, params.max_tokens
    share = max_model_len // _ANSWER_SHARE
    wanted = share if options.answer_limit is None else min(share, options.answer_limit)
    least = max(params.min_tokens, 1)
    return max(wanted, least), least


def _room_behind(
    prompt: Prompt, params: SamplingParams, options: RequestOptions, max_model_len: int
) -> int:
    """Tokens that an answer to a prompt may have."""
    room = check_room(len(prompt.token_ids), params.max_tokens, max_model_len)
    if params.min_tokens > room:
        raise InvalidSamplingParamsError(
            f"min_tokens={params.min_tokens}, but the context has room for {room} tokens.",
            parameter="min_tokens",
            value=params.min_tokens,
        )
    if params.max_tokens is None and options.answer_limit is not None:
        return min(room, max(options.answer_limit, params.min_tokens))
    return room


def _check_ids(params: SamplingParams, n_vocab: int) -> None:
    named = {"logit_bias": params.logit_bias or (), "stop_token_ids": params.stop_ids}
    for name, token_ids in named.items():
        for token_id in token_ids:
            if token_id >= n_vocab:
                raise InvalidSamplingParamsError(
                    f"{name} has id {token_id}, but ids go from 0 to {n_vocab - 1}.",
                    parameter=name,
                    value=token_id,
                )


def _adapter_key(name: str | None, known: Mapping[str, str | None]) -> str | None:
    """The engine's key of a named adapter; None for the base model and for a merged one."""
    if name is None:
        return None
    if name not in known:
        loaded = f"one of {', '.join(map(repr, known))} or None" if known else "None"
        raise InvalidRequestError(
            f"adapter={shown(name)} is not loaded; it must be {loaded}.",
            parameter="adapter",
            value=name,
            hint="Give its directory at load: adapters={name: directory}.",
        )
    return known[name]


def _cache_key(salt: str | None, adapter: str | None) -> tuple[str, ...]:
    """Who may share cached prefixes with whom."""
    if adapter is not None:
        # Two parts where an adapter is used, so that no salt can spell an adapter's key.
        return (salt or "", adapter)
    return () if salt is None else (salt,)

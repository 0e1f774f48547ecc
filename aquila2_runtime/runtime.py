"""Aquila2Runtime: a loaded checkpoint and everything one does with it. It owns no model itself.

A request goes down: messages are rendered into ids (``prompts``), the engine continues the ids, and
``Answer`` turns them into text. Sync, async and streaming are three ways to read the same handle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from aquila2_runtime.batches import Batch, ParamsOrMany, one_each
from aquila2_runtime.errors import InvalidPromptError
from aquila2_runtime.generation import aread_stream, read_stream
from aquila2_runtime.load_options import LoadOptions
from aquila2_runtime.loaded import Loaded
from aquila2_runtime.message import Message
from aquila2_runtime.preparing import prepared
from aquila2_runtime.sampling import SamplingParams
from aquila2_runtime.submission import Submission, submit_one
from aquila2_runtime.tools import Tool, check_tools

if TYPE_CHECKING:
    from aquila2_runtime.outputs import Delta, RequestOutput


class Aquila2Runtime(Loaded):
    """A loaded Aquila2 checkpoint.

    Get one with ``load``. Any number of threads and event loops may use it at once; their requests
    are computed together. Runtimes of the same checkpoint, type and device share one set of
    weights, freed when the last of them is closed or collected.

    Example:
        >>> with Aquila2Runtime.load("aquila2-demo") as rt:
        ...     out = rt.chat([Message("user", "Hello!")], SamplingParams(temperature=0))
        >>> out.finish_reason
        <FinishReason.STOP: 'stop'>
    """

    @classmethod
    def load(cls, model: str, **options: Any) -> Self:
        """Load a checkpoint, or share it if it is loaded already.

        Args:
            model: A released name in any letter case ("AquilaChat2-7B", "aquila2-demo"),
                ``owner/name`` on a hub, or a directory. A directory never touches the network.
            **options: Any of ``LoadOptions``: quantization, device, dtype, max_model_len,
                template, adapters, merge_adapter, revision, source, cache_dir, offline,
                allow_pickle, allow_unknown_tokenizer, kv_cache_memory, kv_cache_dtype,
                max_num_seqs, prefix_cache, speculation, attention, cuda_graphs, nf4_copy,
                trailing_space, strict_markers, engine, base_url, remote_model, progress.

        Raises:
            UnknownParameterError: An option does not exist.
            InvalidLoadOptionError: An option has a bad value.
            CheckpointError: The checkpoint cannot be found, fetched or read.
            InsufficientMemoryError: It does not fit.
            ServerError: The server of engine="openai" cannot be reached, or is none.
        """
        return cls.from_options(LoadOptions.from_kwargs(model=model, **options))

    @classmethod
    def from_options(cls, options: LoadOptions) -> Self:
        """Load with options that are already checked."""
        # Imported here: importing the package must not import torch.
        from aquila2_runtime.opening import open_checkpoint

        return cls(*open_checkpoint(options))

    # Chat

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        **request: Any,
    ) -> RequestOutput:
        """Answer a conversation.

        Args:
            messages: The turns, oldest first. A trailing assistant message is continued.
            params: How to choose tokens and when to stop.
            **request: ``fit`` ("drop_oldest" or "middle": how to shorten a conversation that is
                too long; by default it is refused), ``cache_salt`` (who may share cached
                prefixes), ``timeout`` (seconds), ``answer_limit`` (most new tokens where
                ``max_tokens`` is None), ``adapter`` (the name of a loaded one), ``progress``
                (called with "prefill", tokens read and tokens in all, in the thread that reads
                the answer, while a prompt takes more than one step to read), ``tools``
                (a list of ``Tool``), ``tool_choice`` ("auto", "any", "none" or a tool's name,
                which is then called once; "auto" if left out) and ``parallel_tool_calls``
                (False allows one call). See ``RequestOptions``. Where ``max_tokens`` is None,
                ``fit`` keeps a quarter of the context for the answer, or ``answer_limit`` if that
                is less.

        Raises:
            InvalidRequestError: The request is wrong; nothing was computed.
            RequestTimeoutError: ``timeout`` passed before the first token. Afterwards the answer
                is returned as far as it got, with finish_reason "timeout".
            EngineError: It could not be finished.
        """
        return self._batch([self._chat_submission(messages, params, request)]).run_one()

    def stream_chat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **request: Any
    ) -> Generator[Delta]:
        """Answer a conversation piece by piece; closing the generator stops the work.

        The request is checked and starts now, not at the first ``next()``.
        """
        return self._stream(self._chat_submission(messages, params, request))

    async def achat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **request: Any
    ) -> RequestOutput:
        """Answer a conversation without blocking the event loop; cancelling stops the work."""
        submission = await prepared(self._chat_submission, messages, params, request)
        return await self._batch([submission]).arun_one()

    async def astream_chat(
        self, messages: Sequence[Message], params: SamplingParams | None = None, **request: Any
    ) -> AsyncGenerator[Delta]:
        """Answer piece by piece without blocking the event loop."""
        submission = await prepared(self._chat_submission, messages, params, request)
        # Closed here and now, not when the event loop gets round to an abandoned generator.
        async with contextlib.aclosing(self._astream(submission)) as deltas:
            async for delta in deltas:
                yield delta

    def chat_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        params: ParamsOrMany = None,
        **request: Any,
    ) -> list[RequestOutput]:
        """Answer many conversations together, one output each, in order.

        All are checked before any is computed. Then any number may be given: they go into the
        engine a bounded number at a time. One that reaches its ``timeout`` before its first token
        comes back empty with finish_reason "timeout"; the others are not disturbed.

        Args:
            conversations: The turns of each, oldest first.
            params: One for all, or one for each.
            **request: As for ``chat``; a time limit counts from this call.

        Raises:
            InvalidRequestError: One of the requests is wrong; nothing was computed.
            EngineError: One could not be finished; the others are aborted.
        """
        return self._batch(self._chat_submissions(conversations, params, request)).run()

    async def achat_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        params: ParamsOrMany = None,
        **request: Any,
    ) -> list[RequestOutput]:
        """Answer many conversations together without blocking the event loop."""
        submissions = await asyncio.to_thread(
            self._chat_submissions, conversations, params, request
        )
        return await self._batch(submissions).arun()

    # Completion: plain text or ids, no template

    def complete(
        self,
        prompt: str | None = None,
        params: SamplingParams | None = None,
        *,
        prompt_token_ids: Sequence[int] | None = None,
        **request: Any,
    ) -> RequestOutput:
        """Continue plain text, or exact ids, without any template (as for base models).

        Args:
            prompt: Text; whatever it spells, it yields no control ids.
            params: How to choose tokens and when to stop.
            prompt_token_ids: Ids instead of text, each in [0, vocabulary).
            **request: As for ``chat``.
        """
        submission = self._text_submission(prompt, params, request, prompt_token_ids)
        return self._batch([submission]).run_one()

    def stream_complete(
        self,
        prompt: str | None = None,
        params: SamplingParams | None = None,
        *,
        prompt_token_ids: Sequence[int] | None = None,
        **request: Any,
    ) -> Generator[Delta]:
        """Continue text or ids piece by piece."""
        return self._stream(self._text_submission(prompt, params, request, prompt_token_ids))

    async def acomplete(
        self,
        prompt: str | None = None,
        params: SamplingParams | None = None,
        *,
        prompt_token_ids: Sequence[int] | None = None,
        **request: Any,
    ) -> RequestOutput:
        """Continue text or ids without blocking the event loop."""
        submission = await prepared(
            self._text_submission, prompt, params, request, prompt_token_ids
        )
        return await self._batch([submission]).arun_one()

    async def astream_complete(
        self,
        prompt: str | None = None,
        params: SamplingParams | None = None,
        *,
        prompt_token_ids: Sequence[int] | None = None,
        **request: Any,
    ) -> AsyncGenerator[Delta]:
        """Continue text or ids piece by piece without blocking the event loop."""
        submission = await prepared(
            self._text_submission, prompt, params, request, prompt_token_ids
        )
        # Closed here and now, not when the event loop gets round to an abandoned generator.
        async with contextlib.aclosing(self._astream(submission)) as deltas:
            async for delta in deltas:
                yield delta

    def complete_batch(
        self, prompts: Sequence[str], params: ParamsOrMany = None, **request: Any
    ) -> list[RequestOutput]:
        """Continue many texts together, one output each, in order; see ``chat_batch``."""
        return self._batch(self._text_submissions(prompts, params, request)).run()

    async def acomplete_batch(
        self, prompts: Sequence[str], params: ParamsOrMany = None, **request: Any
    ) -> list[RequestOutput]:
        """Continue many texts together without blocking the event loop."""
        submissions = await asyncio.to_thread(self._text_submissions, prompts, params, request)
        return await self._batch(submissions).arun()

    # Looking

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] | None = None
    ) -> list[int]:
        """Return the exact ids the model sees for a conversation and the tools it may call."""
        return list(self._prompts.chat(messages, tools=check_tools(tools)).token_ids)

    def count_tokens(
        self, text_or_messages: str | Sequence[Message], *, tools: Sequence[Tool] | None = None
    ) -> int:
        """Count a text's tokens, or those of a conversation as ``render`` returns it.

        Raises:
            InvalidPromptError: It is neither, or there are tools, which only conversations show.
        """
        if isinstance(text_or_messages, str):
            if tools:
                raise InvalidPromptError(
                    "Only conversations have tools; a text is counted as it is.",
                    parameter="tools",
                    hint='For one question: [Message("user", "...")].',
                )
            return len(self.tokenizer.encode_ordinary(text_or_messages))
        return len(self.render(text_or_messages, tools=tools))

    # Inner steps

    def _chat_submission(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None,
        request: dict[str, Any],
    ) -> Submission:
        return Submission.of(self._prompts, messages=messages, params=params, request=request)

    def _text_submission(
        self,
        prompt: str | None,
        params: SamplingParams | None,
        request: dict[str, Any],
        prompt_token_ids: Sequence[int] | None = None,
    ) -> Submission:
        if (prompt is None) == (prompt_token_ids is None):
            raise InvalidPromptError(
                "Give either prompt or prompt_token_ids, and not both.", parameter="prompt"
            )
        ids = () if prompt_token_ids is None else prompt_token_ids
        return Submission.of(
            self._prompts, text=prompt, token_ids=ids, params=params, request=request
        )

    def _chat_submissions(
        self,
        conversations: Sequence[Sequence[Message]],
        params: ParamsOrMany,
        request: dict[str, Any],
    ) -> list[Submission]:
        chosen = one_each(params, conversations)
        return [
            self._chat_submission(messages, own, request)
            for messages, own in zip(conversations, chosen, strict=True)
        ]

    def _text_submissions(
        self, prompts: Sequence[str], params: ParamsOrMany, request: dict[str, Any]
    ) -> list[Submission]:
        chosen = one_each(params, prompts)
        return [
            self._text_submission(prompt, own, request)
            for prompt, own in zip(prompts, chosen, strict=True)
        ]

    def _batch(self, submissions: Sequence[Submission]) -> Batch:
        return Batch(self._model().engine, self.tokenizer, submissions, self._info.model)

    def _stream(self, submission: Submission) -> Generator[Delta]:
        handle, answer = submit_one(self._model().engine, self.tokenizer, submission)
        # An awaited stream holds this runtime in its own frame; this one is left to its reader.
        return read_stream(handle, answer, self._use)

    def _astream(self, submission: Submission) -> AsyncGenerator[Delta]:
        return aread_stream(*submit_one(self._model().engine, self.tokenizer, submission))

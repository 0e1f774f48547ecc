"""The runtime's outputs as OpenAI's objects and pieces of streams. They decide nothing.

Reference: https://platform.openai.com/docs/api-reference. Beside its fields an answer has
``notices`` where the runtime changed or left out something on the caller's wish.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aquila2_runtime.openai_logprobs import openai_logprobs
from aquila2_runtime.outputs import (
    CompletionOutput,
    Delta,
    FinishReason,
    RequestOutput,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

Object = dict[str, Any]


def _new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(12)}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Heading:
    """What every object of one answer begins with."""

    model: str
    tokenizer: Aquila2Tokenizer
    id: str
    created: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def _headed(self, kind: str, **fields: Any) -> Object:
        headed = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return headed | fields


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer(_Heading):
    """Writes the answer to a conversation.

    Attributes:
        model: What the request called the model.
        tokenizer: Spells tokens as bytes.
    """

    id: str = dataclasses.field(default_factory=lambda: _new_id("chatcmpl"))
    call_ids: dict[int, str] = dataclasses.field(default_factory=dict)

    def whole(self, output: RequestOutput) -> Object:
        """The object ``chat.completion``."""
        choices = [self._choice(choice) for choice in output.choices]
        made = self._headed("chat.completion", choices=choices, usage=usage(output.usage))
        return made | _told(output.notices)

    def opening(self) -> Object:
        """The first piece: who speaks."""
        return self._piece({"role": "assistant", "content": ""})

    def piece(self, delta: Delta) -> Object:
        """What became of the answer since the piece before."""
        said: Object = {}
        if delta.content:
            said["content"] = delta.content
        calls = []
        for part in delta.tool_calls:
            call: Object = {"index": part.index, "function": {"arguments": part.arguments}}
            if part.index not in self.call_ids:
                self.call_ids[part.index] = _new_id("call")
                call |= {"id": self.call_ids[part.index], "type": "function"}
                call["function"] = {"name": part.name or "", "arguments": part.arguments}
            calls.append(call)
        if calls:
            said["tool_calls"] = calls
        reason = delta.finish_reason
        finished = None if reason is None else _reason(reason, called=bool(self.call_ids))
        return self._piece(said, finished, self._logprobs(delta.logprobs)) | _told(delta.notices)

    def counts(self, counted: Usage) -> Object:
        """The piece that carries the token counts."""
        return self._headed("chat.completion.chunk", choices=[], usage=usage(counted))

    def _piece(
        self, said: Object, finished: str | None = None, logprobs: Object | None = None
    ) -> Object:
        choice = {"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": finished}
        return self._headed("chat.completion.chunk", choices=[choice])

    def _choice(self, choice: CompletionOutput) -> Object:
        calls = [(call.name, _json(call.arguments)) for call in choice.tool_calls]
        # One that was cut short: its arguments are as far as they got.
        calls += [(call.name or "", call.arguments) for call in choice.invalid_tool_calls]
        message: Object = {"role": "assistant", "content": choice.content, "refusal": None}
        if calls:
            message["content"] = choice.content or None
            message["tool_calls"] = [
                {
                    "id": _new_id("call"),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for name, arguments in calls
            ]
        return {
            "index": choice.index,
            "message": message,
            "logprobs": self._logprobs(choice.logprobs),
            "finish_reason": _reason(choice.finish_reason, called=bool(calls)),
        }

    def _logprobs(self, entries: Sequence[TokenLogprob] | None) -> Object | None:
        if entries is None:
            return None
        spell = self.tokenizer.token_bytes
        found = openai_logprobs(entries, lambda token_id: list(spell(token_id)))
        return found | {"refusal": None}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer(_Heading):
    """Writes the continuation of a text.

    Attributes:
        model: What the request called the model.
        tokenizer: Spells tokens.
        ids: Whether ids are told beside text.
        names: Whether log-probabilities name tokens by their ids.
    """

    id: str = dataclasses.field(default_factory=lambda: _new_id("cmpl"))
    ids: bool = False
    names: bool = False

    def whole(self, outputs: Sequence[RequestOutput]) -> Object:
        """The object ``text_completion``: n choices for each prompt, in the prompts' order."""
        found = [choice for output in outputs for choice in output.choices]
        counts = Usage(
            prompt_tokens=sum(output.usage.prompt_tokens for output in outputs),
            completion_tokens=sum(output.usage.completion_tokens for output in outputs),
            cached_tokens=sum(output.usage.cached_tokens for output in outputs),
        )
        choices = [
            self._choice(index, choice.text, str(choice.finish_reason), choice)
            for index, choice in enumerate(found)
        ]
        made = self._headed("text_completion", choices=choices, usage=usage(counts))
        return made | _told(dict.fromkeys(n for output in outputs for n in output.notices))

    def opening(self) -> None:
        """There is no piece before the first text."""

    def piece(self, delta: Delta) -> Object:
        """What became of the answer since the piece before."""
        reason = None if delta.finish_reason is None else str(delta.finish_reason)
        choice = self._choice(0, delta.text, reason, delta)
        return self._headed("text_completion", choices=[choice]) | _told(delta.notices)

    def counts(self, counted: Usage) -> Object:
        """The piece that carries the token counts."""
        return self._headed("text_completion", choices=[], usage=usage(counted))

    def _choice(
        self, index: int, text: str, reason: str | None, made: CompletionOutput | Delta
    ) -> Object:
        logprobs = _text_logprobs(made.logprobs, names=self.names)
        ids = {"token_ids": list(made.token_ids)} if self.ids else {}
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return choice | ids


def usage(counts: Usage) -> Object:
    """Token counts as OpenAI has them."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.total_tokens,
        "prompt_tokens_details": {"cached_tokens": counts.cached_tokens},
    }


def _json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), ensure_ascii=False)


def _reason(reason: FinishReason, *, called: bool) -> str:
    return "tool_calls" if called and reason is FinishReason.STOP else str(reason)


def _told(notices: Sequence[str] | dict[str, None]) -> Object:
    return {"notices": list(notices)} if notices else {}


def _text_logprobs(entries: Sequence[TokenLogprob] | None, *, names: bool) -> Object | None:
    """The older form: parallel lists; offsets count from the text's or the piece's beginning.

    Args:
        entries: The tokens.
        names: Whether they are spelt by their ids.
    """
    if entries is None:
        return None
    offsets, at = [], 0
    for entry in entries:
        offsets.append(at)
        at += len(entry.token)
    return {
        "tokens": [_spelt(entry.token_id, entry.token, names) for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [
            {_spelt(token_id, token, names): logprob for token_id, token, logprob in entry.top}
            for entry in entries
        ],
        "text_offset": offsets,
    }


def _spelt(token_id: int, token: str, names: bool) -> str:
    return f"token_id:{token_id}" if names else token

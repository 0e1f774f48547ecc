"""Answers in the words of OpenAI's chat completions and of Ollama's /api/chat.

It knows what these protocols say, and no client, no socket and no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
CREATED = 1_700_000_000
STAMP = "2025-01-01T00:00:00Z"


@dataclass(frozen=True)
class Answer:
    """What the server says.

    Attributes:
        pieces: The text, as a stream has it.
        call: Name and arguments of a tool call.
        finish: Why it ended.
        pause: Seconds before each piece, and before an answer that is not a stream.
        error: A body that takes the answer's place, or ends a stream after its pieces.
        status: The HTTP status. With 200, an error stands within the stream.
        cut: Whether the connection breaks after the pieces.
        by_bytes: Whether each byte is written alone, so that characters are torn apart.
    """

    pieces: tuple[str, ...] = ("The capital", " of France", " is Paris.")
    call: tuple[str, Json] | None = None
    finish: str = "stop"
    pause: float = 0.0
    error: Json | None = None
    status: int = 200
    cut: bool = False
    by_bytes: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def openai_whole(body: Json, answer: Answer) -> Json:
    """One chat completion, with as many choices as were asked for."""
    message: Json = {"role": "assistant", "content": answer.text}
    if answer.call:
        message |= {"content": None, "tool_calls": [_openai_call(answer.call)]}
    choice: Json = {"message": message, "finish_reason": _openai_reason(answer)}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(body, piece) for piece in answer.pieces]}
    choices = [{"index": index, **choice} for index in range(body.get("n") or 1)]
    head = _openai_head(body, "chat.completion")
    return {**head, "choices": choices, "usage": _openai_usage(answer)}


def openai_parts(body: Json, answer: Answer) -> Iterator[Json]:
    """The chunks of a stream, before its ``[DONE]``."""
    head = _openai_head(body, "chat.completion.chunk")

    def part(delta: Json, finish: str | None = None, **more: Any) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **more}
        return {**head, "choices": [choice]}

    yield part({"role": "assistant", "content": ""})
    if answer.call:
        call = _openai_call(answer.call)
        arguments = call["function"]["arguments"]
        first = {"index": 0, **call, "function": {"name": answer.call[0], "arguments": ""}}
        yield part({"tool_calls": [first]})
        for at in range(0, len(arguments), 4):
            function = {"arguments": arguments[at : at + 4]}
            yield part({"tool_calls": [{"index": 0, "function": function}]})
    else:
        for piece in answer.pieces:
            found = {"content": [_logprob(body, piece)]} if body.get("logprobs") else None
            yield part({"content": piece}, logprobs=found)
    yield part({}, _openai_reason(answer))
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _openai_usage(answer)}


def ollama_whole(body: Json, answer: Answer) -> Json:
    """One whole answer."""
    return {**_ollama_part(body, answer, answer.text), **_ollama_end(answer)}


def ollama_parts(body: Json, answer: Answer) -> Iterator[Json]:
    """The lines of a stream; a call comes whole, as Ollama sends it."""
    if answer.call:
        yield _ollama_part(body, answer, "")
    else:
        for piece in answer.pieces:
            yield _ollama_part(body, answer, piece)
    yield {**_ollama_part(body, Answer(()), ""), "logprobs": None, **_ollama_end(answer)}


def frame(kind: str, part: Json) -> bytes:
    """One part of a stream: an event of OpenAI's, a line of Ollama's."""
    text = json.dumps(part, ensure_ascii=False)
    return f"data: {text}\n\n".encode() if kind == "openai" else f"{text}\n".encode()


def _openai_head(body: Json, kind: str) -> Json:
    return {"id": "c-1", "object": kind, "created": CREATED, "model": body.get("model")}


def _openai_call(call: tuple[str, Json]) -> Json:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return {"id": "call_1", "type": "function", "function": function}


def _openai_reason(answer: Answer) -> str:
    return "tool_calls" if answer.call else answer.finish


def _openai_usage(answer: Answer) -> Json:
    out = len(answer.pieces)
    details = {"cached_tokens": 4, "cache_write_tokens": 2}
    usage = {"prompt_tokens": 9, "completion_tokens": out, "total_tokens": 9 + out}
    return {**usage, "prompt_tokens_details": details}


def _logprob(body: Json, piece: str) -> Json:
    one = {"token": piece, "logprob": -0.5, "bytes": list(piece.encode())}
    return {**one, "top_logprobs": [one] * (body.get("top_logprobs") or 0)}


def _ollama_part(body: Json, answer: Answer, text: str) -> Json:
    message: Json = {"role": "assistant", "content": text}
    if answer.call:
        function = {"name": answer.call[0], "arguments": answer.call[1]}
        message |= {"content": "", "tool_calls": [{"function": function}]}
    part = {"model": body.get("model"), "created_at": STAMP, "message": message, "done": False}
    return {**part, "logprobs": [_logprob(body, text)]} if body.get("logprobs") else part


def _ollama_end(answer: Answer) -> Json:
    counts = {"prompt_eval_count": 9, "eval_count": len(answer.pieces)}
    times = dict.fromkeys(("total_duration", "load_duration", "eval_duration"), 1_000_000)
    return {"done": True, "done_reason": answer.finish, **counts, **times}

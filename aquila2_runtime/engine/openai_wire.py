"""What goes to an OpenAI-compatible server and comes back: ids and JSON. It opens no connection.

A prompt goes out as ids to ``POST /completions`` and comes back as server-sent events. OpenAI's API
has no ids in answers; these fields are those of vLLM (0.10.2 and later) and of ``aquila2 serve``:
``return_token_ids``, and ``return_tokens_as_token_ids``, which spells tokens as "token_id:5".
Reference: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (completions).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.engine.base import EngineRequest, Finished, IdLogprob
from aquila2_runtime.errors import Aquila2Error, InvalidRequestError, ServerError
from aquila2_runtime.outputs import FinishReason

KNOWN_SERVERS: Final = "base_url must name aquila2 serve, or vLLM 0.10.2 or later."
_NAMED: Final = "token_id:"
_BARRED: Final = -9999.0  # what vLLM says of ids that cannot come; JSON has no infinity
# "abort" and "timeout" are not the caller's doing there.
_REASONS: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_MOST_DIGITS: Final = 10


def body_for(request: EngineRequest, model: str) -> dict[str, Any]:
    """What is sent for a request.

    Everything that chooses tokens is said: a server's own defaults may be the checkpoint's
    ``generation_config.json``.

    Args:
        request: What to continue.
        model: The model's name there, unless the request names an adapter.
    """
    params = request.params
    body: dict[str, Any] = {
        "model": request.adapter or model,
        "prompt": list(request.prompt_token_ids),
        "max_tokens": request.max_tokens,
        "min_tokens": params.min_tokens,
        "temperature": 0.0 if params.greedy else params.temperature,
        "top_p": params.top_p,
        "top_k": max(params.top_k, 0),
        "min_p": params.min_p,
        "repetition_penalty": params.repetition_penalty,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "ignore_eos": params.ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    if params.seed is not None:
        # The i-th of n answers has seed + i, which may leave the 64 bits that servers take.
        body["seed"] = (request.seed + 2**63) % 2**64 - 2**63
    if params.logit_bias:
        body["logit_bias"] = {str(key): bias for key, bias in params.logit_bias.items()}
    if params.logprobs is not None:
        body |= {"logprobs": params.logprobs, "return_tokens_as_token_ids": True}
    if request.cache_key and request.cache_key[0]:
        body["cache_salt"] = request.cache_key[0]
    if request.form is not None:
        body["structured_outputs"] = dict(request.form.asked)
    elif request.stop_ids:
        body["stop_token_ids"] = sorted(request.stop_ids)
    return body


class AnswerReader:
    """Reads the pieces of one streamed answer, and believes none of it unseen.

    Args:
        request: What was asked.
        n_vocab: Ids lie below it.
    """

    def __init__(self, request: EngineRequest, n_vocab: int) -> None:
        self.finished: Finished | None = None
        self.cached_tokens = 0
        self._request = request
        self._n_vocab = n_vocab
        self._count = 0
        self._last: int | None = None

    def take(self, data: str) -> Iterator[tuple[int, IdLogprob | None]]:
        """Read one piece; gives its new ids, with log-probabilities where they were asked for.

        Raises:
            ServerError: The server says that it failed, or the piece is none of an answer with ids.
        """
        piece = _json(data)
        if "error" in piece:
            raise _ended_by(piece)
        self._take_usage(piece.get("usage"))
        choices = piece.get("choices")
        if not isinstance(choices, list) or len(choices) > 1:
            _strange("choices")
        if not choices:
            return
        choice = choices[0]
        if not isinstance(choice, dict):
            _strange("choices")
        ids = self._ids(choice)
        logprobs = self._logprobs(choice, ids)
        yield from zip(ids, logprobs, strict=True)
        self._finish(choice.get("finish_reason"))

    def _ids(self, choice: Mapping[str, Any]) -> list[int]:
        ids = choice.get("token_ids") or []
        if not isinstance(ids, list) or not all(map(self._is_id, ids)):
            _strange("token_ids")
        # With its end an answer may get text that was held back, and no new ids.
        if not ids and choice.get("text") and (not self._count or not choice.get("finish_reason")):
            raise ServerError(
                "The server answers with text and without token ids.",
                parameter="base_url",
                hint=KNOWN_SERVERS,
            )
        self._count += len(ids)
        if self._count > self._request.max_tokens or (ids and self.finished is not None):
            _strange("token_ids")
        self._last = ids[-1] if ids else self._last
        return ids

    def _is_id(self, value: object) -> bool:
        return type(value) is int and 0 <= value < self._n_vocab

    def _logprobs(self, choice: Mapping[str, Any], ids: list[int]) -> list[IdLogprob | None]:
        most = self._request.params.logprobs
        if most is None:
            return [None] * len(ids)
        told = choice.get("logprobs")
        if not ids and told is None:
            return []
        own = told.get("token_logprobs") if isinstance(told, dict) else None
        tops = told.get("top_logprobs") if isinstance(told, dict) else None
        if not isinstance(own, list) or len(own) != len(ids):
            _strange("logprobs")
        tops = tops if isinstance(tops, list) and len(tops) == len(ids) else [None] * len(ids)
        return [
            IdLogprob(token_id, _number(logprob), self._top(top, most))
            for token_id, logprob, top in zip(ids, own, tops, strict=True)
        ]

    def _top(self, told: object, most: int) -> tuple[tuple[int, float], ...]:
        found = []
        for name, logprob in (told if isinstance(told, dict) else {}).items():
            digits = name.removeprefix(_NAMED)
            whole = digits.isascii() and digits.isdecimal() and len(digits) <= _MOST_DIGITS
            if digits == name or not whole or not self._is_id(int(digits)):
                _strange("top_logprobs")
            if (number := _number(logprob)) > _BARRED:
                found.append((int(digits), number))
        # The chosen one may be told beside the likeliest.
        return tuple(sorted(found, key=lambda pair: -pair[1])[:most])

    def _take_usage(self, usage: object) -> None:
        details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(cached, int) and 0 <= cached <= len(self._request.prompt_token_ids):
            self.cached_tokens = cached

    def _finish(self, reason: object) -> None:
        if reason is None or self.finished is not None:
            return
        if not isinstance(reason, str) or reason not in _REASONS:
            _strange("finish_reason")
        stopped_by = None
        request, last = self._request, self._last
        if reason == "stop" and last in request.stop_ids and last != request.eos_token_id:
            stopped_by = last
        self.finished = Finished(_REASONS[reason], stopped_by)


def _ended_by(piece: Mapping[str, Any]) -> Aquila2Error:
    """What an error within an answer means: vLLM refuses some requests there, with status 200."""
    told = piece["error"]
    code = told.get("code") if isinstance(told, dict) else None
    kind = InvalidRequestError if code in (400, 413, 422) else ServerError
    return kind(f"The server ended the answer: {said(piece)}.")


def said(body: object) -> str:
    """What a server says is wrong, in the forms that are about; shortened."""
    found = body
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
    # One line, and nothing that a terminal or a log would take for more than text.
    plain = "".join(sign if sign.isprintable() else " " for sign in text[:2_000])
    return " ".join(plain.split()).rstrip(".")[:500] or "nothing"


def _json(data: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        _strange("data")
    return found


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e9 < value < 1.0:
        _strange("logprobs")
    return float(value)


def _strange(where: str) -> NoReturn:
    raise ServerError(
        f"The server's answer is not as it must be at {where!r}.",
        parameter=where,
        hint=KNOWN_SERVERS,
    )

"""Asked: a request's body as what the runtime takes. It submits nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidRequestError
from aquila2_runtime.grammar.constraints import (
    AnyJson,
    Choice,
    Constraint,
    JsonSchema,
    LarkGrammar,
    Regex,
)
from aquila2_runtime.instructions import with_instruction
from aquila2_runtime.message import Message
from aquila2_runtime.openai_tools import runtime_choice, runtime_tools
from aquila2_runtime.openai_words import runtime_words
from aquila2_runtime.sampling import FIELD_NAMES, SamplingParams
from aquila2_runtime.server.bodies import ChatBody, CompletionBody, Sampled
from aquila2_runtime.server.messages import runtime_messages
from aquila2_runtime.shown import shown
from aquila2_runtime.signatures import json_instruction

_STRUCTURED: Final = "json, json_object, regex, choice and grammar"
_FORMATS: Final = (
    '{"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": '
    '{"name": ..., "schema": ...}}'
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AskedChat:
    """A conversation to be answered.

    Attributes:
        messages: The conversation.
        params: How to choose tokens.
        options: What a request carries beside.
    """

    messages: list[Message]
    params: SamplingParams
    options: dict[str, Any]

    @classmethod
    def of(cls, body: ChatBody, adapter: str | None) -> AskedChat:
        """Read a body.

        Args:
            body: What came.
            adapter: The adapter that its model's name means; None for none.

        Raises:
            InvalidRequestError: Something in it is wrong.
        """
        _check_stream_options(body)
        sampling = _sampling(body)
        if body.max_completion_tokens is not None:
            if body.max_tokens not in (None, body.max_completion_tokens):
                raise InvalidRequestError(
                    "max_tokens and max_completion_tokens are two names of one thing and differ.",
                    parameter="max_completion_tokens",
                    value=body.max_completion_tokens,
                )
            sampling["max_tokens"] = body.max_completion_tokens
        if body.top_logprobs is not None and not body.logprobs:
            raise InvalidRequestError(
                "top_logprobs is told with logprobs alone: set logprobs to true.",
                parameter="top_logprobs",
                value=body.top_logprobs,
            )
        sampling |= {"logprobs": body.logprobs or False, "top_logprobs": body.top_logprobs}
        constraint, instruction = _form(body.response_format)
        params = SamplingParams(**runtime_words(sampling), constraint=constraint)
        messages = with_instruction(runtime_messages(body.messages), instruction)
        return cls(messages=messages, params=params, options=_options(body, adapter))


def asked_completion(
    body: CompletionBody, adapter: str | None
) -> tuple[list[str] | list[list[int]], SamplingParams, dict[str, Any]]:
    """Read a body: its prompts, how to choose tokens, and what a request carries beside.

    Raises:
        InvalidRequestError: Something in it is wrong.
    """
    _check_stream_options(body)
    prompts: Any = body.prompt
    if isinstance(prompts, str) or isinstance(prompts[0], int):
        prompts = [prompts]
    if body.stream and len(prompts) > 1:
        raise InvalidRequestError(
            f"A stream carries one answer; there are {len(prompts)} prompts.",
            parameter="stream",
            value=True,
            hint="Send a request for each, or read the answers whole.",
        )
    sampling = _sampling(body) | {"logprobs": body.logprobs}
    params = SamplingParams(**runtime_words(sampling), constraint=_structured(body))
    return prompts, params, _common(body, adapter)


def _structured(body: CompletionBody) -> Constraint | None:
    """What a continuation must be."""
    asked = body.structured_outputs
    if asked is None:
        return None
    given = [name for name in type(asked).model_fields if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InvalidRequestError(
            f"structured_outputs must say exactly one of {_STRUCTURED}, not {len(given)}.",
            parameter="structured_outputs",
        )
    if asked.json_schema is not None:
        return JsonSchema(asked.json_schema, strict=False)
    if asked.regex is not None:
        return Regex(asked.regex)
    if asked.choice is not None:
        return Choice(tuple(asked.choice))
    return AnyJson() if asked.grammar is None else LarkGrammar(asked.grammar)


def _check_stream_options(body: Sampled) -> None:
    """Refuse options of a stream where there is none.

    Raises:
        InvalidRequestError: There are some.
    """
    if body.stream_options is not None and not body.stream:
        raise InvalidRequestError(
            "stream_options are for streams: set stream to true.",
            parameter="stream_options",
        )


def _sampling(body: Sampled) -> dict[str, Any]:
    """What a body says of sampling, in OpenAI's words; what it leaves out keeps its default."""
    names = FIELD_NAMES & type(body).model_fields.keys() - {"logprobs"}
    given = {name: getattr(body, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _common(body: Sampled, adapter: str | None) -> dict[str, Any]:
    options = {"adapter": adapter, "cache_salt": body.cache_salt}
    return {name: value for name, value in options.items() if value is not None}


def _options(body: ChatBody, adapter: str | None) -> dict[str, Any]:
    options = _common(body, adapter)
    if body.fit is not None:
        options["fit"] = body.fit
    tools = runtime_tools([tool.model_dump() for tool in body.tools or ()])
    if tools:
        options["tools"] = tools
    choice = runtime_choice(body.tool_choice, [tool.name for tool in tools])
    if choice is not None:
        options["tool_choice"] = choice
    if body.parallel_tool_calls is not None:
        options["parallel_tool_calls"] = body.parallel_tool_calls
    return options


def _form(asked: Mapping[str, Any] | None) -> tuple[JsonSchema | AnyJson | None, str]:
    """What an answer must be, and the line that tells the model of it."""
    kind = None if asked is None else asked.get("type")
    if asked is None or kind == "text":
        return None, ""
    if kind == "json_object":
        return AnyJson(), ""
    inner = asked.get("json_schema")
    if kind != "json_schema" or not isinstance(inner, Mapping):
        _refuse_format(asked)
    schema, strict = inner.get("schema"), inner.get("strict")
    if not isinstance(schema, Mapping) or not isinstance(strict, (bool, type(None))):
        _refuse_format(asked)
    # As OpenAI has it: what cannot be enforced is refused where it is asked for strictly.
    return JsonSchema(schema, strict=bool(strict)), json_instruction(schema)


def _refuse_format(asked: object) -> NoReturn:
    raise InvalidRequestError(
        f"response_format={shown(asked)} is not valid; it must be {_FORMATS}.",
        parameter="response_format",
        value=asked,
    )

"""What requests may hold, as OpenAI's API spells it. Values are checked further down.

Every field is listed: what is not here is refused by name, not passed over. Fields of OpenAI's
that have no effect on a local model are listed as such; those that would have one are refused.
Reference: https://platform.openai.com/docs/api-reference (chat, completions).

A body's first fault is told, and no other is looked for: a few megabytes of wrong entries would
have pydantic describe a million faults, and the event loop wait for minutes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aquila2_runtime.tools import MAX_TOOLS

MAX_MESSAGES = 10_000
MAX_PROMPTS = 128

T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown(cls, given: Any) -> Any:
        """Leave one unknown field to be refused by its name; only lists can stop at the first."""
        if not isinstance(given, dict):
            return given
        known = {field.alias or name for name, field in cls.model_fields.items()}
        others = set([name for name in given if name not in known][1:])
        return {name: value for name, value in given.items() if name not in others}


class StreamOptions(_Body):
    """What a stream says beside the answer.

    Attributes:
        include_usage: Whether a last piece carries the token counts.
        include_obfuscation: Of no effect.
    """

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(_Body):
    """What chat and completions have in common.

    Attributes:
        model: The served name, or that of a loaded adapter.
        max_tokens: Most new tokens; as many as fit by default.
        temperature: See ``SamplingParams``, as for all that have its names.
        stream_options: Only with ``stream``.
        top_k: Not OpenAI's, as the seven after it.
        user: Of no effect, as the five after it.
    """

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | Listed[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    seed: int | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: Listed[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    cache_salt: str | None = None

    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None


class Function(_Body):
    """A tool's function, or the call of one.

    Attributes:
        name: Its name.
        description: What it does.
        parameters: JSON schema of its arguments.
        strict: Whether a schema that cannot be enforced in full is refused.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(_Body):
    """A tool. Only functions are there: nothing is run on the server."""

    type: Literal["function"]
    function: Function


class Called(_Body):
    """The function that an assistant called, with its arguments as JSON text."""

    name: str
    arguments: str


class Call(_Body):
    """A call in an assistant's message."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: Called
    index: int | None = None


class ChatMessage(_Body):
    """A message, whole: what clients copy from an answer is accepted where it says nothing.

    Attributes:
        role: "developer" is "system".
        content: Text, or parts of text.
        name: Who speaks.
        tool_calls: An assistant's calls.
        tool_call_id: Which call a tool's result answers.
        refusal: Nothing, as the three after it.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Listed[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: Listed[Call] | None = None
    tool_call_id: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ChatBody(Sampled):
    """``POST /v1/chat/completions``.

    Attributes:
        messages: The conversation.
        max_completion_tokens: The newer name of ``max_tokens``.
        logprobs: Whether each token's log-probability is told.
        top_logprobs: Of how many of the likeliest too.
        tools: What may be called.
        tool_choice: "auto", "none", "required" or a function.
        parallel_tool_calls: Whether an answer may hold several calls.
        response_format: The form of the answer.
        fit: Not OpenAI's: how to shorten a conversation that is too long.
        reasoning_effort: Nothing: these models answer at once. So with ``modalities``.
    """

    messages: Annotated[Listed[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: Annotated[Listed[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    fit: str | None = None
    reasoning_effort: Literal["none"] | None = None
    modalities: Listed[Literal["text"]] | None = None


Ids = Listed[int]


class StructuredOutputs(_Body):
    """What an answer must be, in vLLM's words: exactly one of these.

    Attributes:
        json_schema: A JSON schema, called ``json``.
        json_object: Any JSON object.
        regex: A regular expression.
        choice: One of some texts.
        grammar: llguidance's dialect of Lark.
    """

    json_schema: Annotated[dict[str, Any] | bool | None, Field(alias="json")] = None
    json_object: Literal[True] | None = None
    regex: str | None = None
    choice: Listed[str] | None = None
    grammar: str | None = None


class CompletionBody(Sampled):
    """``POST /v1/completions``.

    Attributes:
        prompt: A text, several, the ids of one, or of several.
        logprobs: How many of the likeliest tokens are told at each place.
        return_token_ids: Whether answers have their ids too; vLLM's, as the two after it.
        return_tokens_as_token_ids: Whether ``logprobs`` spells tokens as "token_id:5".
        structured_outputs: The form of the answer.
        echo: Not there, as the two after it.
    """

    prompt: (
        str
        | Annotated[Listed[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[Ids, Field(min_length=1)]
        | Annotated[Listed[Ids], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    logprobs: int | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None

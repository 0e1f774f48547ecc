"""Parsers of answers that are objects, for dicts and pydantic classes. They know no model.

LangChain's own close what is open, so an answer that a timeout cut short would be an object. And
they hand classes Python's values: a strict class takes a date from JSON's text, and from no string.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pydantic
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import (
    BaseCumulativeTransformOutputParser,
    JsonOutputParser,
    PydanticOutputParser,
)
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser
from langchain_core.outputs import ChatGeneration, Generation


class EndingParser(BaseCumulativeTransformOutputParser[Any]):
    """Reads a stream's parts as they come and the whole of it at its end, as ``invoke`` does.

    LangChain's stop after the last part: what a timeout cut short, or a class refuses, would end
    without an error.
    """

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        pieces: list[str | BaseMessage] = []

        def noted() -> Iterator[str | BaseMessage]:
            for piece in input:
                pieces.append(piece)
                yield piece

        yield from super()._transform(noted())
        if pieces:
            self.parse_result([_whole(pieces)])

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        pieces: list[str | BaseMessage] = []

        async def noted() -> AsyncIterator[str | BaseMessage]:
            async for piece in input:
                pieces.append(piece)
                yield piece

        async for parsed in super()._atransform(noted()):
            yield parsed
        if pieces:
            await self.aparse_result([_whole(pieces)])


def _whole(pieces: Sequence[Any]) -> Generation:
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return Generation(text=whole) if isinstance(whole, str) else ChatGeneration(message=whole)


class DictParser(EndingParser, JsonOutputParser):
    """Reads an answer that is any JSON."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Return what a whole answer says, or the parts of one as far as they are written.

        Raises:
            OutputParserException: A whole answer is no JSON.
        """
        if partial:
            return super().parse_result(result, partial=True)
        text = result[0].text
        try:
            return json.loads(text)
        except ValueError as error:
            msg = f"Invalid JSON: {text}. Got: {error}"
            raise OutputParserException(msg, llm_output=text) from error


class ClassParser(EndingParser, PydanticOutputParser[Any]):
    """Reads an answer that is an object of a pydantic class."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Return the object; None for a part of one that is none yet.

        Raises:
            OutputParserException: A whole answer is none, also where it was cut short.
        """
        text = result[0].text
        try:
            return self.pydantic_object.model_validate_json(text)
        except pydantic.ValidationError as error:
            if partial:
                return super().parse_result(result, partial=True)
            name = self.pydantic_object.__name__
            msg = f"Failed to parse {name} from completion {text}. Got: {error}"
            raise OutputParserException(msg, llm_output=text) from error


class OldClassParser(EndingParser, PydanticOutputParser[Any]):
    """Reads an answer that is an object of a class of pydantic's version 1."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Return the object; None for a part of one that is none yet.

        Raises:
            OutputParserException: A whole answer is none, also where it was cut short.
        """
        if not partial:
            DictParser().parse_result(result)
        return super().parse_result(result, partial=partial)


class ClassCallParser(EndingParser, JsonOutputKeyToolsParser):
    """Reads an object of a pydantic class from the arguments of a call.

    Attributes:
        pydantic_object: The class.
    """

    pydantic_object: type[pydantic.BaseModel]
    first_tool_only: bool = True

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Return the object; None where nothing is called, or a part of one is none yet.

        Raises:
            pydantic.ValidationError: The arguments of a call are none.
        """
        arguments = super().parse_result(result, partial=partial)
        if arguments is None:
            return None
        try:
            return self.pydantic_object.model_validate_json(json.dumps(arguments))
        except pydantic.ValidationError:
            if partial:
                return None
            raise

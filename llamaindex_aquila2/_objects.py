"""Request for an object of a pydantic class: its messages, its constraint, its reading. No model.

The answer is held to the class's schema while it is written and closed in time, so it always
parses. Validators written in Python are no part of a schema: they can still refuse.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Generic

import pydantic_core
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    MessageRole,
    TextBlock,
)
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from llama_index.core.types import Model

from aquila2_runtime import (
    InvalidRequestError,
    JsonSchema,
    RequestTimeoutError,
    json_instruction,
)
from aquila2_runtime.shown import shown
from llamaindex_aquila2._object_schema import object_schema
from llamaindex_aquila2._responses import timed_out


class ObjectRequest(Generic[Model]):
    """What asks for an object of one class.

    Args:
        output_cls: The class.

    Attributes:
        constraint: What answers are held to. Keywords that cannot be enforced are left out, and a
            notice of the answer names them.

    Raises:
        InvalidRequestError: It is no pydantic class, or one without a JSON schema.
        InvalidConstraintError: Its schema is too large.
    """

    def __init__(self, output_cls: type[Model]) -> None:
        if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
            raise InvalidRequestError(
                f"output_cls={shown(output_cls)} is not valid; it must be a pydantic class.",
                parameter="output_cls",
                value=output_cls,
            )
        self._class = output_cls
        self.constraint = JsonSchema(object_schema(output_cls), strict=False)

    def messages(self, asked: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return the messages with the form named behind the last question, which is copied."""
        messages = list(asked)
        line = json_instruction(self.constraint.json_schema)
        place = next(
            (at for at in reversed(range(len(messages))) if messages[at].role == MessageRole.USER),
            None,
        )
        if place is None:
            return [*messages, ChatMessage(role=MessageRole.USER, content=line)]
        question = messages[place]
        # Blocks are joined by a line break: with the block's own, that is a blank line.
        messages[place] = ChatMessage(
            role=question.role,
            blocks=[*question.blocks, TextBlock(text=f"\n{line}")],
            additional_kwargs=dict(question.additional_kwargs),
        )
        return messages

    def read(self, response: ChatResponse) -> Model:
        """Return a whole answer's object.

        Raises:
            RequestTimeoutError: The answer was cut in two by its time limit.
            ValidationError: A validator of the class refuses it.
        """
        if timed_out(response):
            raise RequestTimeoutError(
                "The time limit passed before the object was complete.", parameter="timeout"
            )
        return self._class.model_validate_json(response.message.content or "")


class ObjectStream(Generic[Model]):
    """An object while it is written.

    Args:
        output_cls: Its class.
    """

    def __init__(self, output_cls: type[Model]) -> None:
        self._class = output_cls
        self._partial: type[FlexibleModel] | None = None
        self._last: Any = None

    def add(self, text: str) -> Model | FlexibleModel | None:
        """Take all of the text so far; return the object so far, None where it is as before.

        It is of the class where the class accepts it, else of a class with the same members, none
        of them required.
        """
        try:
            value = pydantic_core.from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return None
        if not isinstance(value, dict) or value == self._last:
            return None
        # A copy, because a validator that runs before the others may change what it is given.
        self._last = copy.deepcopy(value)
        try:
            return self._class.model_validate(value)
        except Exception:
            # Not only ValidationError: such a validator, written for whole objects, may look for a
            # member that is not there yet. The whole object's errors are read()'s to raise.
            if self._partial is None:
                self._partial = create_flexible_model(self._class)
            return self._partial.model_validate(copy.deepcopy(self._last))

"""PromptMaker: messages, text or ids into the exact ids a model sees. It submits nothing."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from aquila2_runtime.conversation import render_messages
from aquila2_runtime.errors import (
    ContextOverflowError,
    InvalidPromptError,
    TemplateError,
)
from aquila2_runtime.fitting import Window, fit_messages, refuse_hopeless
from aquila2_runtime.message import Message
from aquila2_runtime.shown import shown
from aquila2_runtime.templates import TEMPLATES, Template
from aquila2_runtime.tokenizer import Aquila2Tokenizer
from aquila2_runtime.tools import Tool, tools_text

MAX_MESSAGES: Final = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """The ids of a prompt and what was changed to make them.

    Attributes:
        token_ids: The ids.
        notices: What was changed, one sentence each.
        leaves_space: Whether the answer begins with a space that belongs to the template.
    """

    token_ids: tuple[int, ...]
    notices: tuple[str, ...] = ()
    leaves_space: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PromptMaker:
    """Renders prompts for one checkpoint under one template.

    Attributes:
        tokenizer: Of the checkpoint.
        template: The chat template; None when the checkpoint has none.
        max_model_len: Tokens of prompt and answer together.
        model: The model's name, for messages.
        trailing_space: Append one space to prompts.
        strict_markers: Refuse role markers in message text instead of neutralising them.
        adapters: Names a request may give as ``adapter``, each with the engine's key for it; None
            for one that is merged into the weights.
    """

    tokenizer: Aquila2Tokenizer
    template: Template | None
    max_model_len: int
    model: str
    trailing_space: bool = False
    strict_markers: bool = False
    adapters: Mapping[str, str | None] = dataclasses.field(default_factory=dict)

    def chat(
        self,
        messages: Sequence[Message],
        fit: str | None = None,
        *,
        room: int = 1,
        least: int | None = None,
        tools: Sequence[Tool] = (),
    ) -> Prompt:
        """Render a conversation.

        Args:
            messages: The turns, oldest first.
            fit: None refuses what is too long; "drop_oldest" and "middle" shorten it.
            room: Tokens to leave for the answer when shortening.
            least: Tokens the answer must have, where shortening cannot leave ``room``; None is
                ``room``.
            tools: Shown behind the system text.

        Raises:
            TemplateError: The checkpoint has no chat template.
            InvalidPromptError: The messages cannot be rendered.
            ContextOverflowError: The conversation is too long.
        """
        checked = self._check(messages)
        shown = tools_text(tools)
        if fit is None:
            refuse_hopeless(
                len(shown) + sum(message.characters for message in checked),
                self.tokenizer,
                self.max_model_len,
            )
            return self._render(checked, shown)
        window = Window(self.max_model_len, room, room if least is None else least)
        kept, notices = fit_messages(
            checked,
            lambda some: len(self._render(some, shown).token_ids),
            window,
            fit,
            tokenizer=self.tokenizer,
        )
        prompt = self._render(kept, shown)
        return dataclasses.replace(prompt, notices=(*notices, *prompt.notices))

    def text(self, text: object) -> Prompt:
        """Encode plain text; whatever it spells, it yields no control ids.

        Raises:
            InvalidPromptError: It is empty or no text.
            ContextOverflowError: It is too long.
        """
        if not isinstance(text, str) or not text:
            raise InvalidPromptError(
                f"The prompt must be a non-empty string, not {shown(text, 40)}.", parameter="prompt"
            )
        refuse_hopeless(len(text), self.tokenizer, self.max_model_len)
        return Prompt(tuple(self.tokenizer.encode_ordinary(text)))

    def ids(self, token_ids: Sequence[int]) -> Prompt:
        """Check ids given by the caller.

        Raises:
            InvalidPromptError: There is none, or one is not an integer in [0, vocabulary).
        """
        if isinstance(token_ids, (str, bytes)) or not isinstance(token_ids, Sequence):
            raise InvalidPromptError(
                f"prompt_token_ids must be a list of integers, not {type(token_ids).__name__}.",
                parameter="prompt_token_ids",
                hint="Arrays and tensors have tolist().",
            )
        checked: list[int] = []
        for position, token_id in enumerate(token_ids):
            # numpy integers are fine, bool and float are mistakes.
            if isinstance(token_id, bool) or not hasattr(token_id, "__index__"):
                self._bad_id(position, token_id)
            try:
                number = operator.index(token_id)
            except TypeError:
                self._bad_id(position, token_id)
            if not 0 <= number < self.tokenizer.n_vocab:
                self._bad_id(position, token_id)
            checked.append(number)
        if not checked:
            raise InvalidPromptError("prompt_token_ids is empty.", parameter="prompt_token_ids")
        return Prompt(tuple(checked))

    def _check(self, messages: Sequence[Message]) -> list[Message]:
        if isinstance(messages, (str, Message)) or not isinstance(messages, Sequence):
            raise InvalidPromptError(
                f"messages must be a list of Message, not {type(messages).__name__}.",
                parameter="messages",
                hint='For one question: [Message("user", "...")].',
            )
        if not 0 < len(messages) <= MAX_MESSAGES:
            raise InvalidPromptError(
                f"A conversation has 1 to {MAX_MESSAGES} messages, not {len(messages)}.",
                parameter="messages",
                value=len(messages),
            )
        for index, message in enumerate(messages):
            if not isinstance(message, Message):
                raise InvalidPromptError(
                    f"messages[{index}] is a {type(message).__name__}, not a Message.",
                    parameter=f"messages[{index}]",
                )
        return list(messages)

    def _render(self, messages: Sequence[Message], shown: str) -> Prompt:
        if self.template is None:
            raise TemplateError(
                f"No chat template is known for {self.model}.",
                parameter="template",
                hint="For a base model use complete(); otherwise load with template= one of "
                + ", ".join(TEMPLATES)
                + ".",
            )
        rendered = render_messages(
            messages,
            self.template,
            tools_text=shown,
            trailing_space=self.trailing_space,
            strict_markers=self.strict_markers,
        )
        token_ids = tuple(self.tokenizer.encode_parts(rendered.parts))
        return Prompt(token_ids, rendered.notices, rendered.leaves_space)

    def _bad_id(self, position: int, token_id: object) -> NoReturn:
        raise InvalidPromptError(
            f"prompt_token_ids[{position}]={shown(token_id, 40)} is not an integer from 0 to "
            f"{self.tokenizer.n_vocab - 1}.",
            parameter=f"prompt_token_ids[{position}]",
            value=token_id,
        )


def check_room(prompt_tokens: int, max_tokens: int | None, max_model_len: int) -> int:
    """How many tokens an answer may have.

    Args:
        prompt_tokens: Tokens of the prompt.
        max_tokens: What was asked for; None means what is left.
        max_model_len: The context.

    Raises:
        ContextOverflowError: There is no room, or not the room that was asked for.
    """
    left = max_model_len - prompt_tokens
    if left < (1 if max_tokens is None else max_tokens):
        raise ContextOverflowError(prompt_tokens, max_tokens, max_model_len)
    return left if max_tokens is None else max_tokens

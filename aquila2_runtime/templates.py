"""The five chat templates of the Aquila2 models, as data. They know no messages and no tokenizer.

The strings are those of the released conversation code (FlagAI and FastChat, byte for byte;
aquila-v2 is only in FlagAI). Control tokens are placed by a template alone; text is encoded without
control tokens, whatever it spells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aquila2_runtime.errors import TemplateError
from aquila2_runtime.keywords import nearest
from aquila2_runtime.parts import Control, Part, Text

__all__ = ["DEFAULT_SYSTEM", "TEMPLATES", "Control", "Part", "Template", "Text", "get_template"]

DEFAULT_SYSTEM: Final = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a conversation becomes a prompt.

    A prompt is: the system text and ``after_system``; then each turn between its opening and
    closing; then ``answer_opening``, after which the model writes.

    Attributes:
        name: Its name in the released code.
        default_system: The system text when the conversation has none; None for no system text.
        after_system: What follows a system text.
        user_opening: What opens a user's (or tool's) turn.
        user_closing: What closes it.
        assistant_opening: What opens an assistant's turn of the history.
        assistant_closing: What closes it; a turn that the model is to continue has none.
        answer_opening: What asks for an answer: the opening less the space that the model writes.
        text_markers: Whether roles are marked by plain text, which messages can imitate.
        reference_stops: The stop strings of the released code. They are not in force by default:
            ``###`` cuts answers at the first Markdown heading.
    """

    name: str
    default_system: str | None
    after_system: str
    user_opening: tuple[Part, ...]
    user_closing: tuple[Part, ...] = ()
    assistant_opening: tuple[Part, ...]
    assistant_closing: tuple[Part, ...]
    answer_opening: tuple[Part, ...]
    text_markers: bool
    reference_stops: tuple[str, ...]

    @property
    def leaves_space(self) -> bool:
        """Whether the space before an answer is the model's to write: it is no part of the answer.

        In the history it stands in the opening. "Hello" and " Hello" begin with other tokens, so
        the prompt for an answer ends before it.
        """
        return _ends_in_space(self.assistant_opening) and not _ends_in_space(self.answer_opening)


def _ends_in_space(parts: tuple[Part, ...]) -> bool:
    return isinstance(parts[-1], Text) and parts[-1].text.endswith(" ")


_END_OF_ANSWER: Final = (Control("</s>"),)
_START_OF_PIECE: Final = (Control("<|startofpiece|>"),)
_END_OF_PIECE: Final = (Control("<|endofpiece|>"),)

_ALL: Final = (
    Template(
        name="aquila-chat",
        default_system=DEFAULT_SYSTEM,
        after_system="###",
        user_opening=(Text("Human: "),),
        user_closing=(Text("###"),),
        assistant_opening=(Text("Assistant: "),),
        assistant_closing=(Text("###"),),
        answer_opening=(Text("Assistant:"),),
        text_markers=True,
        reference_stops=("###", "</s>", "[UNK]"),
    ),
    # The same but for the end of an answer: the second "Human:" has no ### before it.
    Template(
        name="aquila",
        default_system=DEFAULT_SYSTEM,
        after_system="###",
        user_opening=(Text("Human: "),),
        user_closing=(Text("###"),),
        assistant_opening=(Text("Assistant: "),),
        assistant_closing=_END_OF_ANSWER,
        answer_opening=(Text("Assistant:"),),
        text_markers=True,
        reference_stops=("</s>", "[UNK]"),
    ),
    Template(
        name="aquila-legacy",
        default_system=DEFAULT_SYSTEM,
        after_system="\n\n",
        user_opening=(Text("### Human: "),),
        user_closing=(Text("\n"),),
        assistant_opening=(Text("### Assistant: "),),
        assistant_closing=_END_OF_ANSWER,
        answer_opening=(Text("### Assistant: "),),
        text_markers=True,
        reference_stops=("</s>", "[UNK]"),
    ),
    # <|endofpiece|> is the assistant's mark, as <|startofpiece|> is the user's.
    Template(
        name="aquila-v1",
        default_system=None,
        after_system="\n\n",
        user_opening=_START_OF_PIECE,
        assistant_opening=_END_OF_PIECE,
        assistant_closing=_END_OF_ANSWER,
        answer_opening=_END_OF_PIECE,
        text_markers=False,
        reference_stops=("</s>", "<|endoftext|>"),
    ),
    Template(
        name="aquila-v2",
        default_system=DEFAULT_SYSTEM,
        after_system="\n\n",
        user_opening=_START_OF_PIECE,
        assistant_opening=_END_OF_PIECE,
        assistant_closing=_END_OF_ANSWER,
        answer_opening=_END_OF_PIECE,
        text_markers=False,
        reference_stops=("</s>", "<|endoftext|>", "<|startofpiece|>", "<|endofpiece|>"),
    ),
)

TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType({item.name: item for item in _ALL})


def get_template(name: str) -> Template:
    """Return a template by its exact name.

    Raises:
        TemplateError: There is none of that name; the choices are listed.
    """
    template = TEMPLATES.get(name) if isinstance(name, str) else None
    if template is None:
        near = nearest(name, TEMPLATES)
        raise TemplateError(
            f"There is no chat template {name!r:.80}.",
            parameter="template",
            value=name,
            hint=(f"Did you mean {near!r}? " if near else "") + f"Choices: {', '.join(TEMPLATES)}.",
        )
    return template

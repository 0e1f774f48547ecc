"""How a conversation becomes a template's parts. It knows no ids.

Rules, the same for all five templates:

* System messages replace the template's default system text, even by an empty one. Several are
  joined by a blank line; one that stands later in the conversation moves to the front, and a
  notice says so. aquila-v1 has no default: its system text comes before the first turn.
* Every other message is a turn of its own: two users in a row are two turns, a conversation may
  begin with the assistant, and an empty message is an empty turn, so that roles never shift.
* Then an answer is asked for. If the last message is the assistant's, its turn is left open
  instead and the model continues it; one that is empty asks for an answer.
* A tool's result is a turn on the user's side that reads ``Tool result (name):``, a new line and
  the content (``Tool result:`` without a name): Aquila2 was not trained for tools and has no such
  role.
* An assistant's calls stand behind its content, a line each. Tools stand behind the system text.
* A name on another message is put before its content: ``name: content``.
* Text is literal. Nothing in it is formatted or stripped, and it yields no control token.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aquila2_runtime.errors import InvalidPromptError
from aquila2_runtime.markers import find_markers, insert_breaks
from aquila2_runtime.message import Message
from aquila2_runtime.parts import Control, Part, Text
from aquila2_runtime.templates import Template

_TOOLS: Final = -1  # where messages have their index


@dataclasses.dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered prompt.

    Attributes:
        parts: Control tokens and text, neighbouring texts joined.
        notices: What was changed on the way, one sentence each.
        leaves_space: Whether the answer begins with a space that belongs to the template.
    """

    parts: tuple[Part, ...]
    notices: tuple[str, ...] = ()
    leaves_space: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a prompt and the message it is from; None for the template's own."""

    part: Part
    message: int | None = None


def render_messages(
    messages: Sequence[Message],
    template: Template,
    *,
    tools_text: str = "",
    trailing_space: bool = False,
    strict_markers: bool = False,
) -> Rendered:
    """Render a conversation; the rules stand at the head of this module.

    Args:
        messages: The turns, oldest first; at least one.
        template: The checkpoint's template.
        tools_text: What shows the tools to the model; empty for none.
        trailing_space: Add one space where an answer begins, as the released inference code does
            and the released training code does not. A turn that is continued gets none.
        strict_markers: Refuse role markers in message text. Otherwise a marker is broken by a
            zero-width space (see ``aquila2_runtime.markers``), and a notice says so.

    Raises:
        InvalidPromptError: There is no message, one is no Message, or ``strict_markers`` found a
            role marker.
    """
    _check(messages)
    pieces = list(_lay_out(messages, template, tools_text, trailing_space))
    notices = list(_system_notices(messages))
    if template.text_markers:
        parts, places = _defend(pieces)
        if places and strict_markers:
            _refuse_marker(places[0], template)
        if places:
            notices.append(
                f"{len(places)} role marker(s) of the template in message text were broken by a "
                f"zero-width space (in messages {', '.join(_unique(places))})."
            )
    else:
        parts = [part for part, _ in _runs(pieces)]
    asks = messages[-1].role != "assistant" or not _spoken(messages[-1])
    leaves_space = template.leaves_space and asks and not trailing_space
    return Rendered(tuple(parts), tuple(notices), leaves_space)


def _check(messages: Sequence[Message]) -> None:
    if isinstance(messages, (str, Message)) or not isinstance(messages, Sequence):
        raise InvalidPromptError(
            f"messages must be a list of Message, not {type(messages).__name__}.",
            parameter="messages",
            hint='For one question: [Message("user", "...")].',
        )
    if not messages:
        raise InvalidPromptError("There are no messages.", parameter="messages", value=0)
    for index, message in enumerate(messages):
        if not isinstance(message, Message):
            raise InvalidPromptError(
                f"messages[{index}] is a {type(message).__name__}, not a Message.",
                parameter=f"messages[{index}]",
            )


def _lay_out(
    messages: Sequence[Message], template: Template, tools_text: str, trailing_space: bool
) -> Iterator[_Piece]:
    """Yield the prompt's pieces in order, before anything is joined."""
    yield from _lay_out_system(messages, template, tools_text)
    turns = [(index, item) for index, item in enumerate(messages) if item.role != "system"]
    last = turns.pop() if turns and turns[-1][1].role == "assistant" else None
    for index, message in turns:
        if message.role == "assistant":
            opening, closing = template.assistant_opening, template.assistant_closing
        else:
            opening, closing = template.user_opening, template.user_closing
        yield from map(_Piece, opening)
        yield _Piece(Text(_spoken(message)), index)
        yield from map(_Piece, closing)
    if last is not None and _spoken(last[1]):
        yield from map(_Piece, template.assistant_opening)
        yield _Piece(Text(_spoken(last[1])), last[0])
        return
    yield from map(_Piece, template.answer_opening)
    if trailing_space:
        yield _Piece(Text(" "))


def _lay_out_system(
    messages: Sequence[Message], template: Template, tools_text: str
) -> Iterator[_Piece]:
    given = [(_spoken(item), at) for at, item in enumerate(messages) if item.role == "system"]
    default = template.default_system
    if not given and not tools_text:
        if default is not None:
            yield _Piece(Text(default + template.after_system))
        return
    texts = [_Piece(Text(text), at) for text, at in given]
    if not given and default is not None:
        texts = [_Piece(Text(default))]
    if tools_text:
        # Before the tools an empty text is no text: nothing has to be parted from them.
        texts = [piece for piece in texts if _text_of([piece])]
        texts.append(_Piece(Text(tools_text), _TOOLS))
    for place, piece in enumerate(texts):
        if place:
            # A blank line between two system texts cannot help to spell a marker.
            yield _Piece(Text("\n\n"))
        yield piece
    if default is not None or _text_of(texts):
        yield _Piece(Text(template.after_system))


def _spoken(message: Message) -> str:
    """The text of a turn: the content, with what a name, calls or a tool's result add."""
    if message.role == "tool":
        source = f" ({message.name})" if message.name else ""
        return f"Tool result{source}:\n{message.content}"
    spoken = f"{message.name}: {message.content}" if message.name else message.content
    calls = [call.text for call in message.tool_calls]
    return "\n".join([spoken, *calls] if spoken else calls)


def _system_notices(messages: Sequence[Message]) -> Iterator[str]:
    turn_seen = False
    for index, message in enumerate(messages):
        if message.role != "system":
            turn_seen = True
        elif turn_seen:
            yield f"The system message {index} was moved to the front of the prompt."


def _runs(pieces: Iterable[_Piece]) -> Iterator[tuple[Part, list[_Piece]]]:
    """Yield the control tokens, and runs of text joined into one, each with its pieces."""
    run: list[_Piece] = []
    for piece in pieces:
        if isinstance(piece.part, Text):
            run.append(piece)
            continue
        if text := _text_of(run):
            yield Text(text), run
        run = []
        yield piece.part, [piece]
    if text := _text_of(run):
        yield Text(text), run


def _text_of(run: Sequence[_Piece]) -> str:
    return "".join(piece.part.text for piece in run if isinstance(piece.part, Text))


def _defend(pieces: Iterable[_Piece]) -> tuple[list[Part], list[int]]:
    """Break every role marker that is not the template's own.

    Runs are searched whole, so a marker is found also where it is put together across the border
    of two messages, or of a message and the template.

    Returns:
        The parts, and for each marker broken the index of its message.
    """
    parts: list[Part] = []
    places: list[int] = []
    for part, run in _runs(pieces):
        if isinstance(part, Control):
            parts.append(part)
            continue
        own: list[tuple[int, int]] = []
        starts: list[int] = []
        owners: list[int] = []
        end = 0
        for piece in run:
            start, end = end, end + len(_text_of([piece]))
            if piece.message is not None:
                starts.append(start)
                owners.append(piece.message)
            elif own and own[-1][1] == start:
                own[-1] = (own[-1][0], end)
            else:
                own.append((start, end))
        found = list(find_markers(part.text, own))
        parts.append(Text(insert_breaks(part.text, found)))
        places += (owners[max(bisect_left(starts, place) - 1, 0)] for place in found)
    return parts, places


def _unique(places: Iterable[int]) -> list[str]:
    return ["the tools" if at == _TOOLS else str(at) for at in dict.fromkeys(places)]


def _refuse_marker(index: int, template: Template) -> None:
    where = "tools" if index == _TOOLS else f"messages[{index}]"
    raise InvalidPromptError(
        f"{where} spells a role marker of the template {template.name}.",
        parameter=where,
        value=index,
        hint="Change the text, or load without strict_markers: the marker is then broken by a "
        "zero-width space.",
    )

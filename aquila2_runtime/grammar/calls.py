"""Tool calls as a grammar: which calls an answer may hold, and where. It renders and parses none.

An answer is text, or text and then calls, one a line; or, where it has a form of its own, JSON or
calls. Text is free but for the opening of a call:
once that is written, the rest is held to the grammar, so that every call that begins is complete
and its arguments follow the tool's schema.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from aquila2_runtime.engine.constraint import TokenConstraint, is_set
from aquila2_runtime.errors import GenerationError, InvalidConstraintError
from aquila2_runtime.grammar.compiler import Compiled, Compiler
from aquila2_runtime.grammar.constraints import JSON_STYLE, AnyJson, JsonSchema
from aquila2_runtime.grammar.examples import schema_examples
from aquila2_runtime.grammar.schema_bounds import required_names
from aquila2_runtime.tools import CALL_CLOSING, CALL_OPENING, Tool

if TYPE_CHECKING:
    from aquila2_runtime.grammar.matching import GrammarState
    from aquila2_runtime.grammar.vocabulary import Vocabulary

CHOICES: Final = ("auto", "any", "none")
MAX_SCHEMAS_BYTES: Final = 128_000

_OPENING: Final = CALL_OPENING.encode()


@dataclasses.dataclass(frozen=True, slots=True)
class CallGrammar:
    """What an answer's calls must look like.

    Attributes:
        vocabulary: Of the checkpoint.
        calls: One call or more, from the opening on; None where no call is allowed.
        text_first: Whether text may come instead, or before.
        masks: For each number of bytes of the opening that stand at the text's end, the ids
            that may come next; None for all of them.
        notices: What the schemas' grammars leave out.
    """

    vocabulary: Vocabulary
    calls: Compiled | None
    text_first: bool
    masks: tuple[bytes | None, ...]
    notices: tuple[str, ...] = ()

    @property
    def least_tokens(self) -> int:
        """Tokens of the shortest answer."""
        return 0 if self.text_first or self.calls is None else self.calls.least_tokens

    def state(self, max_tokens: int) -> TokenConstraint:
        """Begin an answer."""
        if self.text_first or self.calls is None:
            return TextThenCalls(self, max_tokens)
        return self.calls.state(max_tokens)


def call_grammar(
    compiler: Compiler,
    tools: Sequence[Tool],
    choice: str,
    *,
    parallel: bool,
    otherwise: JsonSchema | AnyJson | None = None,
) -> CallGrammar:
    """Compile what tools and a choice among them allow.

    Args:
        compiler: Of the checkpoint.
        tools: At least one, with different names.
        choice: "auto", "any", "none" or a tool's name, which then is called once.
        parallel: Whether there may be several calls.
        otherwise: What an answer of "auto" is where it is no call; None for any text.

    Raises:
        InvalidConstraintError: A schema cannot be compiled.
        MissingDependencyError: llguidance is not installed.
    """
    left_out = None if otherwise is None else otherwise.dropped
    told = ((tool.name, tool.text, tool.dropped) for tool in tools)
    key = (choice, parallel, otherwise, left_out, *told)
    return compiler.remembered(
        key, lambda: _call_grammar(compiler, tools, choice, parallel, otherwise)
    )


def _call_grammar(
    compiler: Compiler,
    tools: Sequence[Tool],
    choice: str,
    parallel: bool,
    otherwise: JsonSchema | AnyJson | None,
) -> CallGrammar:
    vocabulary = compiler.vocabulary
    calls = None
    if choice != "none":
        offered = tools if choice in CHOICES else [tool for tool in tools if tool.name == choice]
        several = parallel and choice in CHOICES
        calls = _compile(compiler, offered, several=several, otherwise=otherwise)
    masks = _masks(vocabulary, calls)
    notices = calls.notices if calls is not None else ()
    text_first = choice in ("auto", "none") and otherwise is None
    return CallGrammar(vocabulary, calls, text_first, masks, notices)


def _compile(
    compiler: Compiler,
    tools: Sequence[Tool],
    *,
    several: bool,
    otherwise: JsonSchema | AnyJson | None,
) -> Compiled:
    bodies: list[str] = []
    rules: list[str] = []
    names: set[str] = {"name", "arguments"}
    schemas: list[object] = []
    dropped: list[str] = []
    size = 0
    for index, tool in enumerate(tools):
        text, missing = _arguments(tool)
        size += len(text)
        if size > MAX_SCHEMAS_BYTES:
            raise InvalidConstraintError(
                f"The schemas of the tools have more than {MAX_SCHEMAS_BYTES} characters.",
                parameter="tools",
            )
        schemas.append(json.loads(text))
        dropped += (f"{keyword} (tool {tool.name})" for keyword in missing)
        opening = json.dumps(f'"{tool.name}", "arguments": ')
        bodies.append(f"{opening} args{index}")
        rules.append(f"args{index}: %json {text}")
    start = 'start: call ("\\n" call)*' if several else "start: call"
    if otherwise is not None:
        start += " | answer"
        rules.append(f"answer: %json {_styled(otherwise.json_schema)}")
        schemas.append(otherwise.json_schema)
        dropped += otherwise.dropped
    grammar = "\n".join(
        [
            start,
            f"call: {json.dumps(CALL_OPENING + _HEAD)} body {json.dumps('}' + CALL_CLOSING)}",
            f"body: {' | '.join(bodies)}",
            *rules,
        ]
    )
    return compiler.grammar(
        grammar,
        json_text=True,
        required=names | required_names(schemas),
        examples=schema_examples(schemas),
        never=dropped,
    )


_HEAD: Final = '{"name": '


def _arguments(tool: Tool) -> tuple[str, tuple[str, ...]]:
    """A tool's schema for the compiler, and what it leaves out."""
    return _styled(json.loads(tool.text)), tool.dropped


def _styled(schema: Mapping[str, Any]) -> str:
    """A schema as a grammar takes it."""
    styled = {**schema, "x-guidance": {**JSON_STYLE, "coerce_one_of": True}}
    return json.dumps(styled, ensure_ascii=False)


def _masks(vocabulary: Vocabulary, calls: Compiled | None) -> tuple[bytes | None, ...]:
    """Bar ids that complete the opening and go on as no call does."""
    barred: list[set[int]] = [set() for _ in _OPENING]
    for before, token_id, behind in vocabulary.completions(_OPENING):
        if calls is None or not _begins(vocabulary, calls, _OPENING + behind):
            barred[before].add(token_id)
    # An id that holds the whole opening is barred whatever stands before it.
    return tuple(
        vocabulary.mask_without(own | barred[0]) if own | barred[0] else None for own in barred
    )


def _begins(vocabulary: Vocabulary, calls: Compiled, data: bytes) -> bool:
    tokens = vocabulary.cut(data)
    return bool(calls.matcher.validate_tokens(tokens) == len(tokens))


class TextThenCalls(TokenConstraint):
    """Follows one answer through its text and, if calls begin, through the calls.

    Args:
        grammar: What is allowed.
        max_tokens: Most tokens of the answer.
    """

    def __init__(self, grammar: CallGrammar, max_tokens: int) -> None:
        self._grammar = grammar
        self._left = max_tokens
        self._calls: GrammarState | None = None
        self._tail = b""  # of the text: the bytes with which an opening could begin
        self._cut = False
        self._settled: tuple[int, GrammarState | None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing but the end of the answer can follow."""
        return self._cut or (self._calls is not None and self._calls.ended)

    @property
    def cut(self) -> bool:
        """Whether the answer was closed because few tokens were left."""
        return self._cut or (self._calls is not None and self._calls.cut)

    def mask(self) -> bytes | None:
        """Return the ids that may come next (see ``TokenConstraint``)."""
        if self._calls is not None:
            return self._calls.mask()
        return self._grammar.masks[_overlap(self._tail)]

    def allows(self, token_id: int) -> bool:
        """Whether an id is certain to be in the mask (see ``TokenConstraint``)."""
        if self._calls is not None:
            return self._calls.allows(token_id)
        return is_set(self._grammar.masks[_overlap(self._tail)], token_id)

    def settle(self, token_id: int) -> int:
        """Return the id to take; the end of the answer where a call no longer fits."""
        if self._calls is not None:
            return self._calls.settle(token_id)
        self._cut = False
        text = self._tail + self._grammar.vocabulary.bytes_of(token_id)
        at = text.find(_OPENING)
        calls = None
        if at >= 0:
            calls = self._begin(text[at:])
            if calls is None:
                self._cut = True
                token_id = self._grammar.vocabulary.eos_token_id
        self._settled = (token_id, calls)
        return token_id

    def advance(self, token_id: int) -> None:
        """Note that a settled id was taken."""
        if self._calls is not None:
            self._calls.advance(token_id)
            return
        if self._settled is None or self._settled[0] != token_id:
            self.settle(token_id)
        if self._settled is not None:
            self._calls = self._settled[1]
        text = self._tail + self._grammar.vocabulary.bytes_of(token_id)
        self._tail = text[-len(_OPENING) + 1 :]
        self._settled = None
        self._left -= 1

    def _begin(self, data: bytes) -> GrammarState | None:
        """The calls' state behind the opening and what was written with it, if they still fit."""
        if self._grammar.calls is None:
            msg = "A call began where none is allowed."
            raise GenerationError(msg, parameter="tool_choice")
        state = self._grammar.calls.state(self._left - 1)
        return state if state.begin(data) else None


def _overlap(tail: bytes) -> int:
    """How many bytes of the opening stand at the end of the text."""
    for length in range(min(len(tail), len(_OPENING) - 1), 0, -1):
        if tail.endswith(_OPENING[:length]):
            return length
    return 0

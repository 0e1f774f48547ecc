"""Compiler: constraints become matchers over a checkpoint's tokens. It follows no answers itself.

Everything is bounded before the compiler sees it (``schema_bounds``, ``constraints``), and the
compiler's own limits are set low. It runs in the thread that asks, never in the engine's.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from aquila2_runtime.errors import InvalidConstraintError
from aquila2_runtime.grammar.closing import Closing
from aquila2_runtime.grammar.constraints import (
    JSON_STYLE,
    AnyJson,
    Choice,
    Constraint,
    JsonSchema,
    Regex,
)
from aquila2_runtime.grammar.examples import example, schema_examples
from aquila2_runtime.grammar.json_position import JsonPosition
from aquila2_runtime.grammar.matching import GrammarState
from aquila2_runtime.grammar.schema_bounds import required_names
from aquila2_runtime.grammar.vocabulary import Vocabulary, llguidance

if TYPE_CHECKING:
    from aquila2_runtime.tokenizer import Aquila2Tokenizer

Made = TypeVar("Made")

_TRIES: Final = 10_000  # continuations looked at for the shortest whole answer
_CACHED: Final = 64
_REMEMBERED: Final = 16
_CACHED_BYTES: Final = 2_000_000  # of grammar text
_JSON_BYTES: Final = frozenset(b'"{}[]:, 0')
_UNENFORCED: Final = re.compile(r"Unimplemented keys: \[\"([^\"]+)\"|\b(oneOf)\b")


@dataclasses.dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled grammar, from which every answer gets a state of its own.

    Attributes:
        vocabulary: Of the checkpoint.
        closing: Finds completions.
        matcher: At the beginning; only ever copied.
        way: The shortest whole answer that was found; None where none was.
        source: The grammar, in llguidance's form.
        notices: What the grammar leaves out.
    """

    vocabulary: Vocabulary
    closing: Closing
    matcher: Any
    way: bytes | None
    source: str = dataclasses.field(repr=False)
    notices: tuple[str, ...] = ()

    @property
    def least_tokens(self) -> int:
        """Tokens of the shortest whole answer; 0 where none was found."""
        return len(self.vocabulary.cut(self.way)) if self.way is not None else 0

    def state(self, max_tokens: int) -> GrammarState:
        """Begin an answer."""
        return GrammarState(
            self.vocabulary, self.closing, self.matcher.deep_copy(), self.way, max_tokens
        )


class Compiler:
    """Compiles for one checkpoint and keeps what it compiled lately. Safe to share by threads.

    Args:
        tokenizer: Of the checkpoint.
    """

    def __init__(self, tokenizer: Aquila2Tokenizer) -> None:
        self._lock = threading.Lock()
        self._tokenizer = weakref.ref(tokenizer)
        self._vocabulary: Vocabulary | None = None
        self._kept: collections.OrderedDict[str, Compiled] = collections.OrderedDict()
        self._kept_bytes = 0
        self._remembered: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    @property
    def vocabulary(self) -> Vocabulary:
        """The checkpoint's tokens, prepared at first use.

        Raises:
            MissingDependencyError: llguidance is not installed.
        """
        with self._lock:
            if self._vocabulary is None:
                tokenizer = self._tokenizer()
                if tokenizer is None:
                    msg = "a compiler outlived its tokenizer"
                    raise RuntimeError(msg)
                self._vocabulary = Vocabulary(tokenizer)
            return self._vocabulary

    def compile(self, constraint: Constraint) -> Compiled:
        """Compile a constraint.

        Raises:
            InvalidConstraintError: It is malformed, too complex, cannot be enforced or accepts
                nothing.
            MissingDependencyError: llguidance is not installed.
        """
        matcher = llguidance().LLMatcher
        if isinstance(constraint, JsonSchema):
            options = {**JSON_STYLE, "coerce_one_of": not constraint.strict}
            text = "{}" if constraint.text == "true" else constraint.text
            grammar = matcher.grammar_from_json_schema(text, overrides=options)
            return self.grammar(
                grammar,
                json_text=True,
                required=required_names(constraint.schema),
                examples=schema_examples(constraint.schema),
                never=constraint.dropped,
            )
        if isinstance(constraint, AnyJson):
            schema = {} if constraint.top == "any" else {"type": constraint.top}
            grammar = matcher.grammar_from_json_schema(schema, overrides=JSON_STYLE)
            return self.grammar(grammar, json_text=True)
        if isinstance(constraint, Regex):
            grammar = matcher.grammar_from_regex(_unanchored(constraint.pattern))
            found = example(constraint.pattern)
            return self.grammar(grammar, examples=[found.encode()] if found else ())
        if isinstance(constraint, Choice):
            quoted = (_quoted(option) for option in constraint.options)
            lark = f"start: CHOICE\nCHOICE: {' | '.join(quoted)}"
            return self.grammar(matcher.grammar_from_lark(lark))
        return self.grammar(matcher.grammar_from_lark(constraint.text))

    def grammar(
        self,
        grammar: str,
        *,
        json_text: bool = False,
        required: Iterable[str] = (),
        examples: Iterable[bytes] = (),
        never: Iterable[str] = (),
    ) -> Compiled:
        """Compile a grammar in llguidance's form, or return what was compiled before.

        Args:
            grammar: The grammar.
            json_text: Whether it describes JSON, beside text without quotes and brackets.
            required: Names of members that are required somewhere.
            examples: Texts that strings with patterns may have, as JSON spells them.
            never: Keywords that were left out of a schema, each with its place.

        Raises:
            InvalidConstraintError: It is malformed, too complex or accepts nothing.
        """
        vocabulary = self.vocabulary
        with self._lock:
            found = self._kept.get(grammar)
            if found is not None:
                self._kept.move_to_end(grammar)
        if found is None:
            found = _compile(vocabulary, grammar, json_text, required, examples)
            self._keep(grammar, found)
        notices = tuple(f"Not enforced in the schema: {keyword}." for keyword in never)
        return dataclasses.replace(found, notices=(*notices, *found.notices))

    def remembered(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what was made lately of grammars of this compiler's, or make it."""
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return cast("Made", self._remembered[key])
        made = make()
        with self._lock:
            self._remembered[key] = made
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return made

    def _keep(self, grammar: str, compiled: Compiled) -> None:
        with self._lock:
            if grammar not in self._kept:
                self._kept_bytes += len(grammar)
            self._kept[grammar] = compiled
            while len(self._kept) > _CACHED or self._kept_bytes > _CACHED_BYTES:
                old, _ = self._kept.popitem(last=False)
                self._kept_bytes -= len(old)


_compilers: weakref.WeakKeyDictionary[Aquila2Tokenizer, Compiler] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def compiler_for(tokenizer: Aquila2Tokenizer) -> Compiler:
    """Return the one compiler of a tokenizer; it lives as long as the tokenizer does."""
    with _lock:
        found = _compilers.get(tokenizer)
        if found is None:
            found = _compilers[tokenizer] = Compiler(tokenizer)
        return found


def _compile(
    vocabulary: Vocabulary,
    grammar: str,
    json_text: bool,
    required: Iterable[str],
    examples: Iterable[bytes],
) -> Compiled:
    package = llguidance()
    limits = package.LLParserLimits(
        initial_lexer_fuel=500_000,
        step_lexer_fuel=100_000,
        step_max_items=20_000,
        max_lexer_states=30_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )
    matcher = package.LLMatcher(vocabulary.compiled, grammar, log_level=0, limits=limits)
    if matcher.is_error():
        raise _invalid(str(matcher.get_error()))
    matcher = _alive(matcher)
    if json_text and not vocabulary.units.keys() >= _JSON_BYTES:
        raise _invalid("this checkpoint's vocabulary cannot spell JSON")
    names = (json.dumps(name, ensure_ascii=False)[1:-1].encode() for name in required)
    closing = Closing(vocabulary, json_text=json_text, required=names, examples=examples)
    way = closing.find(matcher, JsonPosition(), _TRIES)
    # What no search finds may still be there for an expression; JSON must always close.
    if way is None and json_text:
        raise _invalid("no answer that it accepts was found; it may be too complex")
    notices = tuple(f"The grammar: {note}" for note in matcher.get_grammar_warnings())
    return Compiled(vocabulary, closing, matcher, way, grammar, notices)


def _alive(matcher: Any) -> Any:
    """Return the matcher if anything can come first; limits are met at the first mask."""
    ahead = matcher.deep_copy()
    mask = ahead.compute_bitmask()
    if ahead.is_error():
        raise _invalid(str(ahead.get_error()))
    if not any(mask) or (ahead.is_stopped() and not ahead.is_accepting()):
        raise _invalid("it accepts nothing")
    return matcher


def _invalid(said: str) -> InvalidConstraintError:
    key = _UNENFORCED.search(said)
    name = (key.group(1) or key.group(2)) if key else None
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reason = lines[0] if lines else said
    # Of an expression, what is wrong stands below it, on a line of its own.
    faults = [line.removeprefix("error: ") for line in lines[1:] if line.startswith("error: ")]
    if faults:
        reason = f"{reason.removesuffix('regex parse error:')}{faults[-1]}"
    return InvalidConstraintError(
        f"The constraint cannot be used: {reason:.300}",
        parameter=name or "constraint",
        hint="Take the keyword out, or use strict=False." if name else None,
    )


def _quoted(option: str) -> str:
    # A grammar's text may hold no control characters, and JSON does not escape this one.
    return json.dumps(option, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unanchored(pattern: str) -> str:
    """The pattern without the anchors that say what holds anyway."""
    pattern = pattern.removeprefix("^")
    body = pattern.removesuffix("$")
    escapes = len(body) - len(body.rstrip("\\"))
    return body if body != pattern and escapes % 2 == 0 else pattern

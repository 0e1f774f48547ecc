"""JsonSchema, Regex, Choice, LarkGrammar, AnyJson: what an answer must be. They compile nothing.

A constrained answer is always complete: when few tokens are left, only what closes it is allowed,
and the answer then ends with ``finish_reason="length"``. (A vLLM that ``engine="openai"`` asks cuts
it there.) Stop strings and stop ids do not apply, because they could cut a value in two; a notice
says so where some were given.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidConstraintError
from aquila2_runtime.grammar.schema_bounds import check_schema
from aquila2_runtime.plain_text import check_text

JSON_STYLE: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
}
"""No free whitespace: a weak model would write nothing else. Separators as in ``json.dumps``."""

MAX_PATTERN_CHARACTERS: Final = 2_000
MAX_CHOICES: Final = 1_000
MAX_CHOICE_CHARACTERS: Final = 64_000
MAX_GRAMMAR_CHARACTERS: Final = 64_000


@dataclasses.dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that a schema accepts, written as ``json.dumps`` writes it: ``{"a": 1, "b": [2, 3]}``.

    Members come in the order of ``properties``; an object with ``properties`` has no others unless
    the schema says ``additionalProperties``.

    Args:
        schema: A JSON schema; references must be local (``#/$defs/...``).
        strict: Whether a keyword that cannot be enforced is an error. Otherwise it is left out,
            and a notice of the answer names it.

    Raises:
        InvalidConstraintError: It is no schema, too large or, if ``strict``, has a keyword that
            cannot be enforced; the message names the keyword and where it stands.
    """

    schema: Mapping[str, Any] | bool = dataclasses.field(compare=False)
    strict: bool = True
    text: str = dataclasses.field(init=False, repr=False)
    dropped: tuple[str, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the schema and keep a copy that the caller cannot change."""
        _flag("strict", self.strict)
        text, dropped = check_schema(self.schema, strict=self.strict, parameter="constraint")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "dropped", dropped)
        object.__setattr__(self, "schema", json.loads(text))

    @property
    def json_schema(self) -> dict[str, Any]:
        """What is enforced, as a dict."""
        return dict(self.schema) if isinstance(self.schema, Mapping) else {}


@dataclasses.dataclass(frozen=True, slots=True)
class AnyJson:
    """Any JSON value, written as ``json.dumps`` writes it; ``top`` says which kind.

    Args:
        top: "any", "object" or "array".

    Raises:
        InvalidConstraintError: ``top`` is none of these.
    """

    top: str = "object"

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.top not in ("any", "object", "array"):
            _fail(f'AnyJson(top={self.top!r:.40}) must be "any", "object" or "array".')

    @property
    def json_schema(self) -> dict[str, Any]:
        """The same as a JSON schema."""
        return {} if self.top == "any" else {"type": self.top}

    @property
    def dropped(self) -> tuple[str, ...]:
        """Nothing is left out."""
        return ()


@dataclasses.dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches as a whole.

    Args:
        pattern: In the syntax of Rust's regex crate; no look-around and no back-references.
            ``^`` at its start and ``$`` at its end are allowed and say nothing new.

    Raises:
        InvalidConstraintError: It is no string, empty or longer than 2,000 characters.
    """

    pattern: str

    def __post_init__(self) -> None:
        """Check type and length."""
        _text("pattern", self.pattern, MAX_PATTERN_CHARACTERS)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of some texts, exactly.

    Args:
        options: 1 to 1,000 different texts, none empty, of 64,000 characters in all at most.

    Raises:
        InvalidConstraintError: They are not.
    """

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check every option and store them as a tuple without duplicates."""
        options = self.options
        if not isinstance(options, (tuple, list)) or not 0 < len(options) <= MAX_CHOICES:
            _fail(f"options must be a list of 1 to {MAX_CHOICES} texts.")
        for option in options:
            _text("options", option, MAX_CHOICE_CHARACTERS)
        if sum(map(len, options)) > MAX_CHOICE_CHARACTERS:
            _fail(f"options have more than {MAX_CHOICE_CHARACTERS} characters in all.")
        object.__setattr__(self, "options", tuple(dict.fromkeys(options)))


@dataclasses.dataclass(frozen=True, slots=True)
class LarkGrammar:
    """Text of a context-free grammar in llguidance's dialect of Lark.

    Args:
        text: The grammar; its rule ``start`` is the whole answer.

    Raises:
        InvalidConstraintError: It is no string, empty or longer than 64,000 characters.
    """

    text: str

    def __post_init__(self) -> None:
        """Check type and length."""
        _text("text", self.text, MAX_GRAMMAR_CHARACTERS)


Constraint = JsonSchema | AnyJson | Regex | Choice | LarkGrammar
KINDS: Final = (JsonSchema, AnyJson, Regex, Choice, LarkGrammar)


def structured_outputs(constraint: Constraint) -> dict[str, Any]:
    """A constraint in the words of vLLM's ``structured_outputs``, which ``aquila2 serve`` knows.

    Reference: https://docs.vllm.ai/en/latest/features/structured_outputs.html
    """
    if isinstance(constraint, Regex):
        return {"regex": constraint.pattern}
    if isinstance(constraint, Choice):
        return {"choice": list(constraint.options)}
    if isinstance(constraint, LarkGrammar):
        return {"grammar": constraint.text}
    # vLLM allows free whitespace, of which a weak model writes no end; llguidance heeds this there.
    loose = isinstance(constraint, JsonSchema) and not constraint.strict
    style = {**JSON_STYLE, "coerce_one_of": loose}
    return {"json": {**constraint.json_schema, "x-guidance": style}}


def _text(name: str, value: object, most: int) -> None:
    if not isinstance(value, str):
        _fail(f"{name} must be text, not {type(value).__name__}.")
    if not 0 < len(value) <= most:
        _fail(f"{name} must have 1 to {most} characters, not {len(value)}.")
    check_text(value, name)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        _fail(f"{name} must be True or False.")


def _fail(message: str) -> NoReturn:
    raise InvalidConstraintError(message, parameter="constraint")

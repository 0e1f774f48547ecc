"""Demands: what a request asks of an answer's form, by a constraint or by tools. It submits none.

Tools and their choice are checked here; the grammar is compiled here, in the thread that asks, and
an answer that cannot fit its token limit is refused before any work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aquila2_runtime.engine.constraint import Form
from aquila2_runtime.errors import InvalidConstraintError, InvalidPromptError, InvalidRequestError
from aquila2_runtime.grammar.calls import CHOICES, CallGrammar, call_grammar
from aquila2_runtime.grammar.compiler import Compiled, compiler_for
from aquila2_runtime.grammar.constraints import (
    AnyJson,
    Constraint,
    JsonSchema,
    structured_outputs,
)
from aquila2_runtime.sampling import MAX_NEW_TOKENS, SamplingParams
from aquila2_runtime.tools import Tool

if TYPE_CHECKING:
    from aquila2_runtime.engine.constraint import TokenConstraint
    from aquila2_runtime.request_options import RequestOptions
    from aquila2_runtime.tokenizer import Aquila2Tokenizer


@dataclasses.dataclass(frozen=True, slots=True)
class Demands:
    """What an answer must look like.

    Attributes:
        tools: That may be called.
        shown: Those that the prompt shows: none where none may be called.
        grammar: What holds the answer to it; None where it is free.
        notices: What is not enforced or not heeded, one sentence each.
    """

    tools: tuple[Tool, ...] = ()
    shown: tuple[Tool, ...] = ()
    grammar: Compiled | CallGrammar | None = None
    notices: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, tokenizer: Aquila2Tokenizer, params: SamplingParams, options: RequestOptions
    ) -> Demands:
        """Check what is asked, and compile it.

        Args:
            tokenizer: Of the checkpoint.
            params: Whose constraint is compiled.
            options: Of which the three about tools are looked at.

        Raises:
            InvalidRequestError: Something about it is wrong.
            MissingDependencyError: llguidance is needed and not installed.
        """
        tools, choice = options.tools, options.tool_choice
        _check_choice(tools, choice)
        if not tools:
            return cls._constrained(tokenizer, params)
        if params.constraint is not None and not isinstance(
            params.constraint, (JsonSchema, AnyJson)
        ):
            raise InvalidRequestError(
                "Beside tools a constraint must be JsonSchema or AnyJson: other text could look "
                "like a call.",
                parameter="constraint",
                value=params.constraint,
            )
        if params.ignore_eos:
            raise InvalidRequestError(
                "ignore_eos cannot be used with tools, whose grammar ends the answer itself.",
                parameter="ignore_eos",
                value=True,
            )
        chosen = choice or "auto"
        if chosen == "none" and params.constraint is not None:
            return cls._constrained(tokenizer, params)
        grammar = call_grammar(
            compiler_for(tokenizer),
            tools,
            chosen,
            parallel=options.parallel_tool_calls,
            otherwise=params.constraint if chosen == "auto" else None,
        )
        notices = list(grammar.notices)
        if params.stop_ids:
            notices.append("stop_token_ids do not apply to answers with tools.")
        if params.stop_strings and not grammar.text_first:
            notices.append("Stop strings do not apply within tool calls.")
        return cls(tools, () if chosen == "none" else tools, grammar, tuple(notices))

    @classmethod
    def _constrained(cls, tokenizer: Aquila2Tokenizer, params: SamplingParams) -> Demands:
        if params.constraint is None:
            return cls()
        grammar = compiler_for(tokenizer).compile(params.constraint)
        notices = list(grammar.notices)
        if params.stop_strings or params.stop_ids:
            notices.append("Stop strings and stop ids do not apply under a constraint.")
        return cls(grammar=grammar, notices=tuple(notices))

    @property
    def free_text(self) -> bool:
        """Whether stop strings apply at all."""
        grammar = self.grammar
        return grammar is None or (isinstance(grammar, CallGrammar) and grammar.text_first)

    def check_room(self, max_tokens: int) -> None:
        """Refuse a token limit that no whole answer fits.

        Raises:
            InvalidConstraintError: The shortest answer is longer.
        """
        least = 0 if self.grammar is None else self.grammar.least_tokens
        if least > max_tokens:
            raise InvalidConstraintError(
                f"The shortest answer that the constraint accepts has {least} tokens, but there "
                f"is room for {max_tokens}.",
                parameter="max_tokens",
                value=max_tokens,
                hint="Raise max_tokens, or loosen the constraint.",
            )

    def state(self, max_tokens: int) -> TokenConstraint | None:
        """Begin one answer."""
        return None if self.grammar is None else self.grammar.state(max_tokens)

    def form(self, constraint: Constraint | None) -> Form | None:
        """The same for an engine elsewhere.

        Calls behind free text have none: there they are what the model makes of them.

        Args:
            constraint: The one that was asked for beside tools.
        """
        grammar = self.grammar
        if isinstance(grammar, CallGrammar):
            if grammar.text_first or grammar.calls is None:
                return None
            asked: dict[str, Any] = {"grammar": grammar.calls.source}
        elif grammar is None or constraint is None:
            return None
        else:
            asked = structured_outputs(constraint)
        return Form(asked, lambda: grammar.state(MAX_NEW_TOKENS))


def _check_choice(tools: Sequence[Tool], choice: str | None) -> None:
    names = [tool.name for tool in tools]
    if choice is None or (choice in ("auto", "none") and not tools):
        return
    if not tools:
        raise InvalidPromptError(
            f"tool_choice={choice!r:.80}, but there are no tools.", parameter="tool_choice"
        )
    if choice not in (*CHOICES, *names):
        raise InvalidPromptError(
            f"tool_choice={choice!r:.80} must be one of {', '.join(map(repr, CHOICES))} or a "
            f"tool's name ({', '.join(names):.200}).",
            parameter="tool_choice",
            value=choice,
        )

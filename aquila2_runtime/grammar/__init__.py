"""What an answer must look like, and how ids are held to it. The engine sees ids only."""

from __future__ import annotations

from aquila2_runtime.grammar.constraints import (
    AnyJson,
    Choice,
    Constraint,
    JsonSchema,
    LarkGrammar,
    Regex,
)

__all__ = ["AnyJson", "Choice", "Constraint", "JsonSchema", "LarkGrammar", "Regex"]

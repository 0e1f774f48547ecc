"""The public names of the runtime; importing them imports neither torch nor transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aquila2_runtime.errors import (
    Aquila2Error,
    CheckpointError,
    ConfigError,
    ContextOverflowError,
    DownloadError,
    EngineBusyError,
    EngineClosedError,
    EngineDeadError,
    EngineError,
    GenerationError,
    InsufficientMemoryError,
    InvalidConstraintError,
    InvalidLoadOptionError,
    InvalidPromptError,
    InvalidRequestError,
    InvalidSamplingParamsError,
    MissingDependencyError,
    ModelNotFoundError,
    OutOfMemoryError,
    RequestTimeoutError,
    ServerError,
    TemplateError,
    TokenizerError,
    UnknownParameterError,
    UnsupportedContentError,
    WeightsError,
)
from aquila2_runtime.grammar import AnyJson, Choice, JsonSchema, LarkGrammar, Regex
from aquila2_runtime.lease import ModelFacts, RuntimeLease
from aquila2_runtime.message import Message
from aquila2_runtime.outputs import (
    CompletionOutput,
    Delta,
    FinishReason,
    RequestOutput,
    Timings,
    TokenLogprob,
    Usage,
)
from aquila2_runtime.sampling import SamplingParams
from aquila2_runtime.signatures import json_instruction
from aquila2_runtime.tool_parser import InvalidToolCall, ToolCallParser, ToolCallPiece
from aquila2_runtime.tools import Tool, ToolCall
from aquila2_runtime.version import __version__

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.register import register
    from aquila2_runtime.runtime import Aquila2Runtime

__all__ = [
    "AnyJson",
    "Aquila2Error",
    "Aquila2Runtime",
    "CheckpointError",
    "Choice",
    "CompletionOutput",
    "ConfigError",
    "ContextOverflowError",
    "Delta",
    "DownloadError",
    "EngineBusyError",
    "EngineClosedError",
    "EngineDeadError",
    "EngineError",
    "FinishReason",
    "GenerationError",
    "InsufficientMemoryError",
    "InvalidConstraintError",
    "InvalidLoadOptionError",
    "InvalidPromptError",
    "InvalidRequestError",
    "InvalidSamplingParamsError",
    "InvalidToolCall",
    "JsonSchema",
    "LarkGrammar",
    "Message",
    "MissingDependencyError",
    "ModelFacts",
    "ModelNotFoundError",
    "OutOfMemoryError",
    "Regex",
    "RequestOutput",
    "RequestTimeoutError",
    "RuntimeLease",
    "SamplingParams",
    "ServerError",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "TokenizerError",
    "Tool",
    "ToolCall",
    "ToolCallParser",
    "ToolCallPiece",
    "UnknownParameterError",
    "UnsupportedContentError",
    "Usage",
    "WeightsError",
    "__version__",
    "json_instruction",
    "register",
]


def __getattr__(name: str) -> Any:
    """Import the runtime, and with it what it needs, when it is first asked for."""
    if name == "Aquila2Runtime":
        from aquila2_runtime.runtime import Aquila2Runtime

        return Aquila2Runtime
    if name == "register":
        from aquila2_runtime.checkpoint.register import register

        return register
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)

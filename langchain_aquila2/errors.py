"""The runtime's errors as LangChain's kinds too. It knows nothing of what raised them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from langchain_core import exceptions as core

from aquila2_runtime import errors as ours


class Aquila2Error(ours.Aquila2Error, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class InvalidRequestError(ours.InvalidRequestError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class InvalidSamplingParamsError(ours.InvalidSamplingParamsError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class InvalidConstraintError(ours.InvalidConstraintError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class InvalidPromptError(ours.InvalidPromptError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class UnsupportedContentError(ours.UnsupportedContentError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class ContextOverflowError(ours.ContextOverflowError, core.ContextOverflowError):
    """The runtime's error of this name, also LangChain's ``ContextOverflowError``."""


class PromptTooLongError(ours.PromptTooLongError, core.ContextOverflowError):
    """The runtime's error of this name, also LangChain's ``ContextOverflowError``."""


class UnknownParameterError(ours.UnknownParameterError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class InvalidLoadOptionError(ours.InvalidLoadOptionError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class TemplateError(ours.TemplateError, core.ModelInvalidRequestError):
    """The runtime's error of this name, also LangChain's ``ModelInvalidRequestError``."""


class CheckpointError(ours.CheckpointError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class ModelNotFoundError(ours.ModelNotFoundError, core.ModelNotFoundError):
    """The runtime's error of this name, also LangChain's ``ModelNotFoundError``."""


class ConfigError(ours.ConfigError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class TokenizerError(ours.TokenizerError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class WeightsError(ours.WeightsError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class DownloadError(ours.DownloadError, core.ModelConnectionError):
    """The runtime's error of this name, also LangChain's ``ModelConnectionError``."""


class InsufficientMemoryError(ours.InsufficientMemoryError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class MissingDependencyError(ours.MissingDependencyError, core.ModelError):
    """The runtime's error of this name, also LangChain's ``ModelError``."""


class EngineError(ours.EngineError, core.ModelAPIError):
    """The runtime's error of this name, also LangChain's ``ModelAPIError``."""

    # LangChain calls this kind retryable; trying again does not help here.
    is_retryable = False


class EngineBusyError(ours.EngineBusyError, core.ModelRateLimitError):
    """The runtime's error of this name, also LangChain's ``ModelRateLimitError``."""


class EngineClosedError(ours.EngineClosedError, core.ModelAPIError):
    """The runtime's error of this name, also LangChain's ``ModelAPIError``."""

    # LangChain calls this kind retryable; trying again does not help here.
    is_retryable = False


class EngineDeadError(ours.EngineDeadError, core.ModelAPIError):
    """The runtime's error of this name, also LangChain's ``ModelAPIError``."""

    # LangChain calls this kind retryable; trying again does not help here.
    is_retryable = False


class ServerError(ours.ServerError, core.ModelConnectionError):
    """The runtime's error of this name, also LangChain's ``ModelConnectionError``."""


class GenerationError(ours.GenerationError, core.ModelAPIError):
    """The runtime's error of this name, also LangChain's ``ModelAPIError``."""

    # LangChain calls this kind retryable; trying again does not help here.
    is_retryable = False


class OutOfMemoryError(ours.OutOfMemoryError, core.ModelAPIError):
    """The runtime's error of this name, also LangChain's ``ModelAPIError``."""


class RequestTimeoutError(ours.RequestTimeoutError, core.ModelTimeoutError):
    """The runtime's error of this name, also LangChain's ``ModelTimeoutError``."""


# Every class of the runtime's tree by its LangChain twin.
TWINS: Final[dict[type[ours.Aquila2Error], type[ours.Aquila2Error]]] = {
    ours.Aquila2Error: Aquila2Error,
    ours.InvalidRequestError: InvalidRequestError,
    ours.InvalidSamplingParamsError: InvalidSamplingParamsError,
    ours.InvalidConstraintError: InvalidConstraintError,
    ours.InvalidPromptError: InvalidPromptError,
    ours.UnsupportedContentError: UnsupportedContentError,
    ours.ContextOverflowError: ContextOverflowError,
    ours.PromptTooLongError: PromptTooLongError,
    ours.UnknownParameterError: UnknownParameterError,
    ours.InvalidLoadOptionError: InvalidLoadOptionError,
    ours.TemplateError: TemplateError,
    ours.CheckpointError: CheckpointError,
    ours.ModelNotFoundError: ModelNotFoundError,
    ours.ConfigError: ConfigError,
    ours.TokenizerError: TokenizerError,
    ours.WeightsError: WeightsError,
    ours.DownloadError: DownloadError,
    ours.InsufficientMemoryError: InsufficientMemoryError,
    ours.MissingDependencyError: MissingDependencyError,
    ours.EngineError: EngineError,
    ours.EngineBusyError: EngineBusyError,
    ours.EngineClosedError: EngineClosedError,
    ours.EngineDeadError: EngineDeadError,
    ours.ServerError: ServerError,
    ours.GenerationError: GenerationError,
    ours.OutOfMemoryError: OutOfMemoryError,
    ours.RequestTimeoutError: RequestTimeoutError,
}


def translate(error: ours.Aquila2Error) -> ours.Aquila2Error:
    """Return the error as one of both kinds, with all its attributes; twins as they are."""
    if isinstance(error, core.ModelError):
        return error
    twin = next(TWINS[base] for base in type(error).__mro__ if base in TWINS)
    translated = twin.__new__(twin)
    translated.args = error.args
    translated.__dict__.update(error.__dict__)
    return translated


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise the runtime's errors as errors of both kinds."""
    try:
        yield
    except ours.Aquila2Error as error:
        translated = translate(error)
        if translated is error:
            raise
        raise translated from error

"""The error tree: every error the packages raise on purpose. It knows nothing of what raised it.

::

    Aquila2Error
    ├── InvalidRequestError (ValueError)      the request is wrong; nothing has been computed
    │   ├── InvalidSamplingParamsError        a sampling parameter has a bad type or value
    │   ├── InvalidConstraintError            a schema or grammar that cannot be enforced
    │   ├── InvalidPromptError                messages, text or token ids that cannot be a prompt
    │   │   └── UnsupportedContentError       an image, audio clip or file for a text model
    │   ├── ContextOverflowError              prompt (and asked-for answer) exceed the context
    │   │   └── PromptTooLongError            text that no tokenization could make fit
    │   ├── UnknownParameterError (TypeError) a keyword that does not exist
    │   ├── InvalidLoadOptionError            an option of ``load`` has a bad value or contradicts
    │   └── TemplateError                     no such template, or none known for the checkpoint
    ├── CheckpointError                       the checkpoint's files are wrong
    │   ├── ModelNotFoundError                no such directory, released name or repository
    │   ├── ConfigError                       config.json is missing, malformed or contradictory
    │   ├── TokenizerError                    tokenizer files are wrong, or tokenization failed
    │   ├── WeightsError                      a shard or tensor is missing, malformed or unexpected
    │   └── DownloadError                     a hub could not be reached or answered wrongly
    ├── InsufficientMemoryError               the model cannot fit; said before allocation
    ├── MissingDependencyError (ImportError)  an optional package is not installed
    └── EngineError                           the engine could not finish the request
        ├── EngineBusyError                   the queue is full; retry later
        ├── EngineClosedError                 the runtime was closed
        ├── EngineDeadError                   the engine failed for good; every waiter gets this
        ├── ServerError                       a server that answers for an engine failed
        ├── GenerationError                   this request failed; the engine goes on
        │   └── OutOfMemoryError              the device ran out of memory on this request
        └── RequestTimeoutError (TimeoutError) no token came within the request's time limit
"""

from __future__ import annotations

from typing import Any, ClassVar


class Aquila2Error(Exception):
    """Base of every error raised on purpose.

    Args:
        message: What is wrong, in one sentence.
        parameter: Name of the parameter, file or tensor at fault.
        value: The offending value (shortened in the text).
        hint: What to do about it.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        parameter: str | None = None,
        value: object = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.parameter = parameter
        self.value = value
        self.hint = hint
        super().__init__(f"{message} {hint}" if hint else message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[Aquila2Error], args: tuple[Any, ...], state: dict[str, Any]) -> Aquila2Error:
    """Rebuild an error in another process; constructors differ, so state is restored as is."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidRequestError(Aquila2Error, ValueError):
    """The request itself is wrong; nothing was computed."""


class InvalidSamplingParamsError(InvalidRequestError):
    """A sampling parameter has a wrong type or lies outside its range."""


class InvalidConstraintError(InvalidRequestError):
    """A schema, expression or grammar that is wrong, too large or cannot be enforced.

    Where one keyword of a schema is at fault, ``parameter`` is that keyword.
    """


class InvalidPromptError(InvalidRequestError):
    """Messages, text or token ids that cannot become a prompt."""


class UnsupportedContentError(InvalidPromptError):
    """An image, audio clip, video or file was given to a text model; it was not opened."""


class ContextOverflowError(InvalidRequestError):
    """The prompt, or the prompt and the answer asked for, exceed the context.

    Attributes:
        prompt_tokens: Tokens of the rendered prompt.
        max_tokens: The answer length asked for, or None.
        max_model_len: Tokens the context holds.
    """

    def __init__(self, prompt_tokens: int, max_tokens: int | None, max_model_len: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.max_model_len = max_model_len
        wanted = prompt_tokens + (max_tokens if max_tokens is not None else 1)
        asked = "at least one new token" if max_tokens is None else f"max_tokens={max_tokens}"
        super().__init__(
            f"The prompt has {prompt_tokens} tokens; with {asked} that is {wanted}, "
            f"{wanted - max_model_len} more than the context of {max_model_len} tokens.",
            parameter="max_tokens" if prompt_tokens < max_model_len else "prompt",
            value=max_tokens if prompt_tokens < max_model_len else prompt_tokens,
            hint=(
                "Shorten the prompt, lower max_tokens, or ask for truncation with "
                'fit="drop_oldest" (drops the oldest exchanges) or fit="middle" '
                "(cuts the middle of the longest text)."
            ),
        )


class PromptTooLongError(ContextOverflowError):
    """Text so long that no tokenization of it can fit; refused without tokenizing.

    Attributes:
        characters: Length of the text.
        max_characters: The longest text that could fit.
    """

    def __init__(self, characters: int, max_characters: int, max_model_len: int) -> None:
        self.characters = characters
        self.max_characters = max_characters
        # At least this many tokens: no token spells more characters than the vocabulary's longest.
        least = -(-characters * max_model_len // max(max_characters, 1))
        super().__init__(least, None, max_model_len)
        self.message = (
            f"The prompt has {characters} characters, at least {least} tokens; "
            f"the context holds {max_model_len} tokens."
        )
        self.args = (f"{self.message} {self.hint}",)


class UnknownParameterError(InvalidRequestError, TypeError):
    """A keyword that no part of the packages knows."""


class InvalidLoadOptionError(InvalidRequestError):
    """An option of ``Aquila2Runtime.load`` has a bad value or contradicts what is loaded."""


class TemplateError(InvalidRequestError):
    """No such chat template, or none is known for this checkpoint."""


class CheckpointError(Aquila2Error):
    """The checkpoint's files are wrong."""


class ModelNotFoundError(CheckpointError):
    """No such directory, released name or repository."""


class ConfigError(CheckpointError):
    """config.json is missing, malformed or contradicts itself or the files beside it."""


class TokenizerError(CheckpointError):
    """Tokenizer files are missing or of an unknown shape, or tokenization failed."""


class WeightsError(CheckpointError):
    """A weight file or tensor is missing, malformed or unexpected."""


class DownloadError(CheckpointError):
    """A hub could not be reached or did not have what was asked for."""

    retryable = True


class InsufficientMemoryError(Aquila2Error):
    """The model cannot fit in memory; raised before anything is allocated."""


class MissingDependencyError(Aquila2Error, ImportError):
    """An optional package is needed and not installed."""


class EngineError(Aquila2Error):
    """The engine could not finish the request."""


class EngineBusyError(EngineError):
    """Too many requests are waiting; try again later."""

    retryable = True


class EngineClosedError(EngineError):
    """The runtime was closed."""


class EngineDeadError(EngineError):
    """The engine failed for good; load the checkpoint again."""


class ServerError(EngineError):
    """A server that answers for an engine could not be reached, failed, or is none of its kind."""

    retryable = True


class GenerationError(EngineError):
    """This request failed; the engine serves the others and the next one."""


class OutOfMemoryError(GenerationError):
    """The device ran out of memory while serving this request."""

    retryable = True


class RequestTimeoutError(EngineError, TimeoutError):
    """The request's own time limit passed before its first token.

    Raised where one request was asked for, whole or streamed: there is nothing to return, and a
    ``TimeoutError`` is what callers retry on. An answer that has begun is returned as far as it
    got, with finish_reason "timeout". So is an empty one that is one of several, of a batch or of
    n: an error for it would take the finished ones with it.
    """

    retryable = True

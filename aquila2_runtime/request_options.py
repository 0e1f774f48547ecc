"""RequestOptions: what a request carries beside prompt and sampling. It knows no model."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidRequestError
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.load_options import ADAPTER_NAME, Progress
from aquila2_runtime.sampling import MAX_NEW_TOKENS
from aquila2_runtime.shown import shown
from aquila2_runtime.tools import Tool, check_tools

FITS: Final = ("drop_oldest", "middle")
MAX_SALT_CHARACTERS: Final = 256
MAX_TOOL_NAME: Final = 64  # characters, see Tool
MAX_TIMEOUT: Final = 1e9  # seconds, some thirty years; larger integers do not fit a float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The keywords of ``chat`` and ``complete`` beside ``params``.

    Attributes:
        adapter: Name of a loaded LoRA adapter; None answers with the model itself.
        fit: How to shorten a conversation that is too long, "drop_oldest" or "middle"; None
            refuses it.
        cache_salt: Who may share cached prefixes with whom; None shares with everybody.
        timeout: Seconds the request may take; None for no limit.
        answer_limit: Most new tokens where ``SamplingParams.max_tokens`` is None; None is what is
            left of the context. Unlike ``max_tokens`` it gives way to a long prompt.
        progress: Called with "prefill", prompt tokens read and prompt tokens in all, in the thread
            that reads the answer, while a prompt takes more than one step to read.
        tools: What may be called; none by default. Checked, and kept as a tuple.
        tool_choice: "auto" (what None means), "any", "none", or the name of a tool.
        parallel_tool_calls: Whether an answer may hold several calls.

    Raises:
        InvalidRequestError: A value has a wrong type or lies outside its range.
    """

    adapter: str | None = None
    fit: str | None = None
    cache_salt: str | None = None
    timeout: float | None = None
    answer_limit: int | None = None
    progress: Progress | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    parallel_tool_calls: bool = True

    def __post_init__(self) -> None:
        """Check every option."""
        if self.adapter is not None and not (
            isinstance(self.adapter, str) and ADAPTER_NAME.fullmatch(self.adapter)
        ):
            _fail("adapter", self.adapter, "the name of a loaded adapter or None")
        if self.fit is not None and not (isinstance(self.fit, str) and self.fit in FITS):
            _fail("fit", self.fit, f"one of {', '.join(map(repr, FITS))} or None")
        salt = self.cache_salt
        if salt is not None and not (
            isinstance(salt, str) and 0 < len(salt) <= MAX_SALT_CHARACTERS
        ):
            _fail("cache_salt", salt, f"a string of 1 to {MAX_SALT_CHARACTERS} characters or None")
        object.__setattr__(self, "timeout", _seconds(self.timeout))
        limit = self.answer_limit
        if limit is not None and (
            isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MAX_NEW_TOKENS
        ):
            allowed = f"an integer from 1 to {MAX_NEW_TOKENS} or None"
            _fail("answer_limit", limit, allowed)
        if self.progress is not None and not callable(self.progress):
            _fail("progress", self.progress, "a function of (stage, done, total) or None")
        object.__setattr__(self, "tools", check_tools(self.tools))
        choice = self.tool_choice
        if choice is not None and not (isinstance(choice, str) and len(choice) <= MAX_TOOL_NAME):
            _fail("tool_choice", self.tool_choice, "'auto', 'any', 'none', a tool's name or None")
        if not isinstance(self.parallel_tool_calls, bool):
            _fail("parallel_tool_calls", self.parallel_tool_calls, "True or False")

    def refuse_for_text(self) -> None:
        """Refuse what only conversations have.

        Raises:
            InvalidRequestError: Something about tools is asked for, or to shorten the prompt.
        """
        for name in ("tools", "tool_choice"):
            if getattr(self, name):
                _fail(name, getattr(self, name), "left out: only conversations have tools")
        if self.fit is not None:
            raise InvalidRequestError(
                "fit shortens conversations; plain text and ids are never shortened.",
                parameter="fit",
                value=self.fit,
            )

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> RequestOptions:
        """Build from keywords of unknown origin.

        Raises:
            UnknownParameterError: A keyword is not an option; the nearest one is suggested.
        """
        reject_unknown(kwargs, REQUEST_OPTIONS, "The request")
        return cls(**kwargs)


REQUEST_OPTIONS: Final = frozenset(field.name for field in dataclasses.fields(RequestOptions))


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    # Written so that NaN, for which every comparison is false, is refused.
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 < value < MAX_TIMEOUT
    ):
        _fail("timeout", value, "a positive number of seconds or None")
    return float(value)


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidRequestError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )

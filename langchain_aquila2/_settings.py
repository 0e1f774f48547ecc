"""Aquila2Settings: the fields both LangChain models share, checked by name and value, without I/O.

It holds the lease on the runtime and turns fields and call keywords into a request. It knows no
messages.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Self

from pydantic import BaseModel, Field, PrivateAttr

from aquila2_runtime import RuntimeLease, SamplingParams, __version__
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.openai_words import runtime_words, with_whole_ids
from aquila2_runtime.request_options import RequestOptions
from aquila2_runtime.sampling import FIELD_NAMES
from langchain_aquila2._calls import check_flag, merged_stops, named_model
from langchain_aquila2._leasing import LOAD_FIELDS, lease_for, refuse_another, refuse_key
from langchain_aquila2.errors import translating

if TYPE_CHECKING:
    from aquila2_runtime.runtime import Aquila2Runtime

# The longest answer when max_tokens is None.
DEFAULT_MAX_TOKENS: Final = 1024
REQUEST_FIELDS: Final = frozenset({"adapter", "fit", "cache_salt", "timeout"})
# What LangChain passes to any model; without effect here, and never stored.
WITHOUT_EFFECT: Final = frozenset({"api_key", "max_retries"})
# What LangChain itself puts among the keywords of a call.
_CORE_KEYWORDS: Final = frozenset({"ls_structured_output_format"})


class Request(NamedTuple):
    """One call, ready for the runtime."""

    lease: RuntimeLease
    params: SamplingParams
    options: dict[str, Any]


class Aquila2Settings(BaseModel):
    """Fields of ``ChatAquila2`` and ``Aquila2LLM``; see ``SamplingParams`` and ``LoadOptions``."""

    model: str = ""
    quantization: str | None = None
    device: str | list[str] = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    template: str | None = None
    adapters: dict[str, str] | None = None
    merge_adapter: str | None = None
    revision: str | None = None
    source: str | None = None
    cache_dir: str | None = None
    offline: bool = False
    allow_pickle: bool = True
    allow_unknown_tokenizer: bool = False
    kv_cache_memory: int | str | None = None
    kv_cache_dtype: str | None = None
    max_num_seqs: int | None = None
    prefix_cache: bool | None = None
    speculation: str | None = None
    attention: str = "auto"
    cuda_graphs: bool | None = None
    nf4_copy: bool = False
    trailing_space: bool = False
    strict_markers: bool = False
    engine: str = "torch"
    base_url: str | None = None
    remote_model: str | None = None

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] | None = None
    stop: str | list[str] | None = None
    include_stop_str_in_output: bool = False
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    seed: int | None = None
    n: int = 1
    logprobs: bool | int | None = None
    top_logprobs: int | None = None

    adapter: str | None = None
    fit: str | None = None
    cache_salt: str | None = None
    timeout: float | None = None
    # None: nobody said. LangChain takes a False for a refusal, whatever callbacks are there.
    streaming: bool | None = None
    runtime: Any = Field(default=None, exclude=True, repr=False)

    # Keywords of a call that a subclass takes beside those of the runtime.
    _call_keywords: ClassVar[frozenset[str]] = frozenset()

    _lease: RuntimeLease = PrivateAttr()
    # Claims on models that calls named; kept, so that no call loads one again.
    _overrides: dict[str, RuntimeLease] = PrivateAttr(default_factory=dict)

    def __init__(self, **kwargs: Any) -> None:
        """Check names, then values, by our own errors; pydantic sees what is right already."""
        fields = type(self).model_fields
        aliases = {name for field in fields.values() if (name := field.alias)}
        known = {*fields, *aliases, *WITHOUT_EFFECT, "model_name", "progress"}
        with translating():
            reject_unknown(kwargs, known, type(self).__name__)
        given = {name: value for name, value in kwargs.items() if name not in WITHOUT_EFFECT}
        with translating():
            refuse_key(kwargs)
            lease = self._checked(given)
        super().__init__(**given)
        self._lease = lease

    @classmethod
    def _checked(cls, given: dict[str, Any]) -> RuntimeLease:
        """Check every value and bring it into its stored form; claim the runtime."""
        progress = given.pop("progress", None)
        name = given.pop("model_name", None)
        if name is not None:
            given["model"] = named_model(given.get("model"), name)
        lease = lease_for(given, progress)
        cls._check_request_fields(given)
        return lease

    @classmethod
    def _check_request_fields(cls, given: dict[str, Any]) -> None:
        """Check what requests are made of and bring it into its stored form."""
        fields = cls.model_fields
        defaults = {key: fields[key].default for key in _SAMPLING if key in fields}
        told = {key: given.get(key, default) for key, default in defaults.items()}
        SamplingParams(**runtime_words(told))
        if "logit_bias" in given:
            given["logit_bias"] = with_whole_ids(given["logit_bias"])
        RequestOptions(**{key: given[key] for key in REQUEST_FIELDS if key in given})
        for name in _FLAGS:
            if name != "streaming" or given.get(name) is not None:
                check_flag(name, given.get(name, False))
        if isinstance(given.get("stop"), tuple):
            given["stop"] = list(given["stop"])

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a field: checked at once, and counts at the next call.

        Raises:
            InvalidRequestError: The value is wrong.
            InvalidLoadOptionError: The field says what is loaded and cannot change.
        """
        with translating():
            if name in LOAD_FIELDS or name == "runtime":
                refuse_another(name, value, getattr(self, name), wrapped=self.runtime is not None)
            elif name in _REQUEST_MADE_OF:
                given = {name: value}
                self._check_request_fields(given)
                value = given[name]
        super().__setattr__(name, value)
        # What LangChain serialized for tracers tells the value before.
        self.__dict__.pop("_serialized", None)

    @classmethod
    def from_runtime(cls, runtime: Aquila2Runtime, **settings: Any) -> Self:
        """Wrap a loaded runtime; closing this object leaves it to its owner."""
        return cls(runtime=runtime, **settings)

    def __eq__(self, other: object) -> bool:
        """Equal settings are equal models; leases of equal options share their runtime."""
        if type(other) is not type(self):
            return False
        # The fields alone: a used model also keeps LangChain's serialized form beside them.
        return all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)

    __hash__ = None  # type: ignore[assignment]  # settings can be changed, so they are no key

    def __copy__(self) -> Self:
        """Copy, sharing the weights; the copy has claims of its own, so it is closed alone."""
        copied = super().__copy__()
        copied._lease = copy.copy(self._lease)
        named = dict(self._overrides)  # calls of other threads may add to it
        copied._overrides = {model: copy.copy(lease) for model, lease in named.items()}
        return copied

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy, sharing the weights; changes are checked as the constructor checks them.

        Raises:
            InvalidRequestError: A value is wrong.
            InvalidLoadOptionError: The model wraps a runtime, and a load option would change.
        """
        copied = super().model_copy(deep=deep)
        if not update:
            return copied
        kept = {name: getattr(copied, name) for name in copied.model_fields_set}
        return type(self)(**{**kept, **update})

    def warmup(self) -> Self:
        """Load the weights now instead of at the first call."""
        with translating():
            self._lease.runtime()
        return self

    def close(self) -> None:
        """Give the claims on the weights back, those of named models too. Idempotent."""
        self._lease.close()
        while self._overrides:
            self._overrides.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def _request(self, stop: Sequence[str] | None, kwargs: Mapping[str, Any]) -> Request:
        """Join fields with a call's keywords; the call's win, and stops are merged.

        Raises:
            UnknownParameterError: A keyword does not exist.
            InvalidSamplingParamsError: A value is wrong.
        """
        reject_unknown(kwargs, self._call_keywords | _CALL_KEYWORDS, type(self).__name__)
        sampling = {key: kwargs.get(key, getattr(self, key)) for key in _SAMPLING}
        sampling["stop"] = merged_stops(self.stop, stop)
        sampling["constraint"] = kwargs.get("constraint")
        options = {key: kwargs.get(key, getattr(self, key)) for key in REQUEST_FIELDS}
        options = {key: value for key, value in options.items() if value is not None}
        RequestOptions(**options)
        lease = self._lease_of(named_model(kwargs.get("model"), kwargs.get("model_name")))
        lease.check_adapter(options.get("adapter"))
        params = SamplingParams(**runtime_words(sampling))
        return Request(lease, params, {**options, "answer_limit": DEFAULT_MAX_TOKENS})

    def _lease_of(self, model: str | None) -> RuntimeLease:
        own = self._lease.options  # raises where this object was closed
        if model is None or model == self.model:
            return self._lease
        if (kept := self._overrides.get(model)) is not None:
            return kept
        fields = {name: getattr(self, name) for name in LOAD_FIELDS}
        options = fields if own is None else own.to_kwargs()
        return self._overrides.setdefault(model, RuntimeLease(**{**options, "model": model}))

    def _identity(self) -> dict[str, Any]:
        """Everything that decides an answer."""
        loaded = None if self.runtime is None else self.runtime.info.to_dict()
        return {**{name: getattr(self, name) for name in _DECISIVE}, "runtime": loaded}


# Fields of the runtime's and OpenAI's own word; a constraint is a keyword of calls only.
_SAMPLING: Final = tuple(sorted(FIELD_NAMES - {"prompt_logprobs", "constraint"} | {"top_logprobs"}))
_CALL_KEYWORDS: Final = frozenset(
    {*_SAMPLING, *REQUEST_FIELDS, *_CORE_KEYWORDS, *WITHOUT_EFFECT}
    | {"constraint", "model", "model_name"}
)
# A timeout decides too: it may have cut an answer short.
_DECISIVE: Final = tuple(sorted({*LOAD_FIELDS, *_SAMPLING, *REQUEST_FIELDS}))
_FLAGS: Final = ("streaming", "stream_usage", "function_calling")
_REQUEST_MADE_OF: Final = frozenset({*_SAMPLING, *REQUEST_FIELDS, *_FLAGS})
VERSION: Final = __version__

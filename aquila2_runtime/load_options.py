"""LoadOptions: what a caller may ask of loading, checked without any I/O. It loads nothing."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from aquila2_runtime.errors import InvalidLoadOptionError
from aquila2_runtime.keywords import reject_unknown
from aquila2_runtime.server_address import server_address
from aquila2_runtime.shown import shown

# Called with the stage ("downloading", "checking", "loading", "ready"), done and total units.
Progress = Callable[[str, int, int | None], None]
# LoRA directories by name, as given; kept as pairs, which can be hashed.
Adapters = Mapping[str, "str | os.PathLike[str]"] | tuple[tuple[str, str], ...]

_DTYPES: Final = ("auto", "float32", "float16", "bfloat16")
_KV_DTYPES: Final = (*_DTYPES, "int8")
_ATTENTIONS: Final = ("auto", "gathered", "paged", "flash-attn", "runs")
_QUANTIZATIONS: Final = ("nf4", "int8")
_SWITCHES: Final = (
    "allow_pickle", "allow_unknown_tokenizer", "nf4_copy", "offline", "trailing_space",
    "strict_markers",
)  # fmt: skip
_SOURCES: Final = ("huggingface", "modelscope")
_SPECULATIONS: Final = ("ngram",)
ENGINES: Final = ("torch", "openai")
# What is said of a model in this process, and would be ignored of one at a server.
_HERE: Final = (
    "quantization", "device", "dtype", "merge_adapter", "kv_cache_memory", "kv_cache_dtype",
    "prefix_cache", "speculation", "attention", "cuda_graphs", "nf4_copy",
)  # fmt: skip
# torch keeps a device's number in a signed byte: it takes "cuda:256" for "cuda:0".
_DEVICE: Final = re.compile(r"auto|cpu|cuda(:(?P<number>0|[1-9][0-9]{0,2}))?")
_MAX_DEVICE: Final = 127
_SIZE: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(KiB|MiB|GiB|B)?")
ADAPTER_NAME: Final = re.compile(r"\w[\w.-]{0,63}", re.ASCII)
_MAX_ADAPTERS: Final = 64
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, None: 1}
_MAX_SIZE: Final = 2**50  # bytes; more than any machine has


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The keywords of ``Aquila2Runtime.load``; equal options mean the same loaded model.

    Attributes:
        model: A released name in any letter case, ``owner/name``, or a directory.
        quantization: None, "nf4" or "int8" (bitsandbytes).
        device: "auto", "cpu", "cuda", "cuda:N", or a list of the last form: the layers are then
            spread over these GPUs by their free memory. "auto" takes one GPU where the model fits
            there, otherwise as many as it needs. Kept as a tuple.
        dtype: "auto", "float32", "float16" or "bfloat16".
        max_model_len: Tokens of prompt and answer together; None is the checkpoint's context.
        template: Name of a chat template; None takes the released checkpoint's own.
        adapters: LoRA adapters: their directories by the names requests give as ``adapter``.
            Kept as a tuple of pairs.
        merge_adapter: The one of ``adapters`` to merge into the weights; None merges none.
        revision: Branch, tag or commit on the hub.
        source: "huggingface" or "modelscope"; None is huggingface.
        cache_dir: Where downloads are kept; None is the hub client's own place.
        offline: Use what is on this machine and ask no hub; ``HF_HUB_OFFLINE=1`` does the same.
        allow_pickle: Whether ``.bin`` shards may be read (always by the restricted unpickler).
        allow_unknown_tokenizer: Accept a tokenizer of a shape that is not known.
        kv_cache_memory: Bytes for keys and values, as a number or like "4GiB".
        kv_cache_dtype: Type of keys and values; None chooses by device. "int8" keeps them in 8
            bits with a scale per token and head: half of 16 bits.
        max_num_seqs: Most requests computed at once.
        prefix_cache: Whether later requests reuse the keys and values of shared prefixes.
        speculation: "ngram" guesses next tokens from the request's own text and verifies several
            in one step: the same answers in fewer steps where they repeat their prompt. None: off.
        attention: "auto", or which implementation: "paged" (Triton, CUDA), "flash-attn" (the same
            with the flash-attn package for prompts), "runs" (keys and values on CPU),
            "gathered" (plain torch, everywhere).
        cuda_graphs: Whether decoding steps are captured and replayed; None does so where it can.
        nf4_copy: With quantization="nf4", keep a 16-bit copy of the weights too, for prompts and
            large batches. Faster there, and as much memory as unquantized weights on top.
        trailing_space: Append one space to prompts, as the reference's own predict() does.
        strict_markers: Refuse role markers in message text instead of neutralising them.
        engine: "torch" computes in this process. "openai" has a server continue ids: ``aquila2
            serve`` or vLLM, elsewhere too; here are the small files alone, and what concerns
            weights, devices and caches is the server's and refused.
        base_url: The server's address, as "http://host:8000/v1"; only with engine="openai". Its key
            is read from the environment variable ``AQUILA2_REMOTE_API_KEY``. ``max_num_seqs`` is
            the most requests sent at once then, and ``adapters`` gives names that the server has.
        remote_model: The model's name at the server; None takes the only one, or the one that is
            called as this checkpoint.
        progress: Called with stage, done and total while loading; not part of equality.

    Raises:
        InvalidLoadOptionError: A value has a wrong type or lies outside its range.
    """

    model: str
    quantization: str | None = None
    device: str | list[str] | tuple[str, ...] = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    template: str | None = None
    adapters: Adapters | None = None
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
    progress: Progress | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check every option; nothing is looked up."""
        for name in ("model", "cache_dir"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if not isinstance(self.model, str) or not self.model.strip():
            _fail("model", self.model, "a released name, owner/name or a directory")
        _one_of("quantization", self.quantization, _QUANTIZATIONS, optional=True)
        _one_of("dtype", self.dtype, _DTYPES)
        _one_of("source", self.source, _SOURCES, optional=True)
        _one_of("speculation", self.speculation, _SPECULATIONS, optional=True)
        _one_of("kv_cache_dtype", self.kv_cache_dtype, _KV_DTYPES, optional=True)
        _one_of("attention", self.attention, _ATTENTIONS)
        object.__setattr__(self, "device", _device(self.device))
        _count("max_model_len", self.max_model_len, 2, 1_000_000)
        _count("max_num_seqs", self.max_num_seqs, 1, 1_024)
        for name in ("template", "revision", "cache_dir", "remote_model"):
            _text(name, getattr(self, name))
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                _fail(name, getattr(self, name), "True or False")
        for name in ("prefix_cache", "cuda_graphs"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), bool):
                _fail(name, getattr(self, name), "True, False or None")
        if self.nf4_copy and self.quantization != "nf4":
            _fail("nf4_copy", self.nf4_copy, 'False unless quantization="nf4"')
        object.__setattr__(self, "kv_cache_memory", _size(self.kv_cache_memory))
        object.__setattr__(self, "adapters", _adapters(self.adapters))
        names = [name for name, _ in self.adapter_pairs]
        if self.merge_adapter is not None and [self.merge_adapter] != names:
            # Another adapter beside it would be added to weights it was not trained on.
            _fail("merge_adapter", self.merge_adapter, "None or the only one of adapters")
        self._check_engine()
        if self.progress is not None and not callable(self.progress):
            _fail("progress", self.progress, "a function of (stage, done, total) or None")

    def _check_engine(self) -> None:
        """Check where it is computed, and refuse what only the other place could heed."""
        _one_of("engine", self.engine, ENGINES)
        if self.engine == "openai":
            object.__setattr__(self, "base_url", server_address(self.base_url))
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            for name in _HERE:
                if getattr(self, name) != defaults[name]:
                    told = f'{defaults[name]!r} with engine="openai", where the server decides it'
                    _fail(name, getattr(self, name), told)
            return
        for name in ("base_url", "remote_model"):
            if getattr(self, name) is not None:
                _fail(name, getattr(self, name), 'None unless engine="openai"')

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> LoadOptions:
        """Build from keywords of unknown origin.

        Raises:
            UnknownParameterError: A keyword is not an option; the nearest one is suggested.
        """
        reject_unknown(kwargs, OPTION_NAMES, "Aquila2Runtime.load")
        return cls(**kwargs)

    def to_kwargs(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, without ``progress``."""
        fields = dataclasses.fields(self)
        return {
            field.name: getattr(self, field.name)
            for field in fields
            if field.name != "progress" and getattr(self, field.name) != field.default
        }

    @property
    def adapter_pairs(self) -> tuple[tuple[str, str], ...]:
        """``adapters`` as names and directories."""
        return self.adapters if isinstance(self.adapters, tuple) else ()

    @property
    def kv_cache_bytes(self) -> int | None:
        """``kv_cache_memory`` in bytes."""
        value = self.kv_cache_memory
        return value if isinstance(value, int) else None


OPTION_NAMES: Final = frozenset(field.name for field in dataclasses.fields(LoadOptions))


def _fail(name: str, value: object, allowed: str) -> NoReturn:
    raise InvalidLoadOptionError(
        f"{name}={shown(value)} is not valid; it must be {allowed}.", parameter=name, value=value
    )


def _one_of(name: str, value: object, allowed: tuple[str, ...], *, optional: bool = False) -> None:
    if (value is None and optional) or (isinstance(value, str) and value in allowed):
        return
    _fail(name, value, "one of " + ", ".join(map(repr, allowed)) + (" or None" * optional))


def _count(name: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _fail(name, value, f"an integer from {low} to {high} or None")


def _text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        _fail(name, value, "a non-empty string or None")


def _device(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str) and _is_device(value):
        return value
    if isinstance(value, list | tuple) and 0 < len(value) <= _MAX_DEVICE:
        names = [name for name in value if isinstance(name, str) and ":" in name]
        if all(map(_is_device, names)) and len(set(names)) == len(value):
            return names[0] if len(names) == 1 else tuple(names)
    _fail(
        "device", value, f'"auto", "cpu", "cuda", "cuda:N" with N up to {_MAX_DEVICE}, or a list '
        "of different ones of that last form",
    )  # fmt: skip


def _is_device(name: str) -> bool:
    found = _DEVICE.fullmatch(name)
    return found is not None and int(found["number"] or 0) <= _MAX_DEVICE


def _adapters(value: object) -> tuple[tuple[str, str], ...] | None:
    if value is None:
        return None
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple) or len(pairs) > _MAX_ADAPTERS:
        _fail("adapters", value, f"at most {_MAX_ADAPTERS} directories by name, or None")
    found: dict[str, str] = {}
    for pair in pairs:
        name, directory = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (None, "")
        if not isinstance(name, str) or not ADAPTER_NAME.fullmatch(name) or name in found:
            _fail("adapters", name, "names of letters, digits, '.', '_' and '-', each once")
        path = os.fspath(directory) if isinstance(directory, str | os.PathLike) else ""
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            _fail("adapters", directory, f"a directory for {name!r}")
        found[name] = path
    return tuple(sorted(found.items())) or None


def _size(value: object) -> int | None:
    if value is None:
        return None
    number = 0
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        number = int(float(found[1]) * _UNITS[found[2]])
    if not 0 < number <= _MAX_SIZE:
        allowed = 'bytes as a positive integer, or like "512MiB" or "4GiB"; at most 2**50'
        _fail("kv_cache_memory", value, allowed)
    return number

"""How much memory a checkpoint needs, from its configuration alone. It allocates nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from aquila2_runtime.errors import InvalidLoadOptionError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig

_ITEM_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_KV_BYTES: Final = _ITEM_BYTES | {"int8": 1}
# Half a byte per weight, and per 64 weights a scale. Files pack the scales as well (Dettmers et
# al., 2023, section 3); in memory they are fp32, so that rows can be joined.
_NF4_BYTES: Final = 0.5 + 4 / 64
_INT8_BYTES: Final = 1.0 + 1 / 1024  # one scale per row; rows are thousands of weights long
_ROWS: Final = 64
_STEP_TOKENS: Final = 512
_BLOCK: Final = 16
# Choosing from one logit: as computed, and in fp32 twice; a captured step has an fp64 and two
# 64-bit whole numbers of each besides.
_LOGIT_BYTES: Final = 10
_CAPTURED_LOGIT_BYTES: Final = 34
# A captured step keeps its launches on the device; the matrix library a workspace for each stream.
_GRAPH_BYTES: Final = 4 * 2**20
_MATRIX_BYTES: Final = 2 * 32 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory of a loaded model, in bytes.

    Attributes:
        weights: Of all weights in their type in memory.
        weights_label: That type ("bfloat16", "nf4", "int8").
        kv_per_token: Keys and values of one token over all layers.
        kv_dtype: Their type.
        kv_tokens: Tokens the cache must hold.
        workspace: Hidden states, gathered context and logits of one step.
        graphs: Captured decoding steps with their own hidden states and logits.
        copy: The 16-bit copy of packed weights, where asked for.
        adapters: LoRA adapters beside the weights.
        context: Tokens the checkpoint was made for.
        length: Tokens of the longest request.
        gathered: Bytes of workspace per token of it: its context, brought together.
        keep: Share of what the weights leave that can be used; an allocator needs some play.
    """

    weights: int
    weights_label: str
    kv_per_token: int
    kv_dtype: str
    kv_tokens: int
    workspace: int
    context: int
    length: int
    gathered: int
    graphs: int = 0
    copy: int = 0
    adapters: int = 0
    keep: float = 1.0

    @property
    def kv_cache(self) -> int:
        """Bytes of keys and values."""
        return self.kv_per_token * self.kv_tokens

    @property
    def used(self) -> int:
        """Bytes that are used at most."""
        return self.held + self.reserve + self.kv_cache

    @property
    def play(self) -> int:
        """Bytes beside them that the allocator may need."""
        return int((self.reserve + self.kv_cache) * (1 / self.keep - 1))

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.used + self.play

    @property
    def held(self) -> int:
        """Bytes of weights of every kind, which stay as they are."""
        return self.weights + self.copy + self.adapters

    @property
    def reserve(self) -> int:
        """Bytes that must stay free once weights and keys and values are there."""
        return self.workspace + self.graphs

    def largest_context(self, available: int) -> int:
        """Tokens of context that fit beside the weights, a multiple of 16; 0 when none do."""
        room = int((available - self.held) * self.keep) - self.reserve
        room += self.gathered * self.length
        tokens = room // (self.kv_per_token + self.gathered)
        return max(min(tokens, self.context) // _BLOCK * _BLOCK, 0)

    def table(self) -> str:
        """Return the estimate as text, one line per part."""
        rows = [
            (f"weights ({self.weights_label})", self.weights),
            (f"keys and values, {self.kv_tokens} tokens ({self.kv_dtype})", self.kv_cache),
            ("workspace", self.workspace),
            ("total", self.total),
        ]
        if self.graphs:
            rows.insert(-1, ("captured steps", self.graphs))
        if self.play:
            rows.insert(-1, ("play of the allocator", self.play))
        if self.adapters:
            rows.insert(1, ("adapters", self.adapters))
        if self.copy:
            rows.insert(1, ("16-bit copy", self.copy))
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {size_text(size):>11}" for name, size in rows)


def estimate_memory(
    config: ModelConfig,
    *,
    dtype: str,
    kv_dtype: str | None = None,
    max_model_len: int | None = None,
    quantization: str | None = None,
    kv_tokens: int | None = None,
    rows: int = _ROWS,
    step_tokens: int = _STEP_TOKENS,
    graphs: int = 0,
    nf4_copy: bool = False,
    unpacks: bool = False,
    adapters: int = 0,
    kv_columns: bool = False,
    keep: float = 1.0,
) -> MemoryEstimate:
    """Estimate the memory of a checkpoint before anything is allocated.

    Args:
        config: The checkpoint.
        dtype: Type of weights and hidden states.
        kv_dtype: Type of keys and values; None is ``dtype``.
        max_model_len: Tokens of one request; None is the checkpoint's context.
        quantization: None, "nf4" or "int8": the projections are packed, the embedding, the head
            and the norms stay in ``dtype``.
        kv_tokens: Tokens the cache holds; None is one request of full length.
        rows: Most requests of a step.
        step_tokens: Most tokens of a step.
        graphs: Decoding steps that are captured.
        nf4_copy: Whether packed projections are kept in ``dtype`` as well.
        unpacks: Whether products of many rows unpack 4-bit weights: the widest projection is then
            there in ``dtype`` for a moment.
        adapters: Bytes of the LoRA adapters beside the weights.
        kv_columns: Whether keys are kept a second time, in columns.
        keep: Share of what the weights leave that can be used.

    Raises:
        InvalidLoadOptionError: An unknown type or quantization.
    """
    item = _item_bytes("dtype", dtype, _ITEM_BYTES)
    kv_item = _item_bytes("kv_cache_dtype", kv_dtype or dtype, _KV_BYTES)
    length = max_model_len or config.max_position
    # A prompt's chunk brings its context together, layer by layer; 8 bits pass through fp32.
    head = config.num_kv_heads * config.head_dim
    gathered = head * (2 * max(item, kv_item) if kv_item > 1 else 2 * item + 5)
    step = _Step(config, item, rows)
    passing = 0
    if unpacks and quantization == "nf4" and not nf4_copy:
        passing = 2 * config.intermediate_size * config.hidden_size * item
    return MemoryEstimate(
        weights=_weight_bytes(config, item, quantization),
        weights_label=quantization or dtype,
        kv_per_token=kv_token_bytes(config, kv_item, columns=kv_columns),
        kv_dtype=kv_dtype or dtype,
        kv_tokens=kv_tokens if kv_tokens is not None else length,
        workspace=step_tokens * step.wide
        + length * gathered
        + step.logits * _LOGIT_BYTES
        + passing,
        context=config.max_position,
        length=length,
        gathered=gathered,
        # What captured steps pass through is kept, apart from what other steps do.
        graphs=graphs * _GRAPH_BYTES + step.captured + passing if graphs else 0,
        copy=config.linear_parameters * item if nf4_copy else 0,
        adapters=adapters,
        keep=keep,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """What a step makes on the way, of a checkpoint whose numbers take ``item`` bytes."""

    config: ModelConfig
    item: int
    rows: int

    @property
    def wide(self) -> int:
        """Bytes of a token: the residual, its norm, fused q/k/v and gate/up."""
        config = self.config
        return (4 * config.hidden_size + 3 * config.intermediate_size) * max(self.item, 4)

    @property
    def logits(self) -> int:
        """Numbers, of all rows."""
        return self.rows * self.config.vocab_size

    @property
    def captured(self) -> int:
        """Bytes that captured steps keep, however many there are."""
        return _MATRIX_BYTES + self.rows * self.wide + self.logits * _CAPTURED_LOGIT_BYTES


def _weight_bytes(config: ModelConfig, item: int, quantization: str | None) -> int:
    packed = {None: float(item), "nf4": _NF4_BYTES, "int8": _INT8_BYTES}
    if quantization not in packed:
        raise InvalidLoadOptionError(
            f"quantization={quantization!r:.60} is not known.",
            parameter="quantization",
            value=quantization,
        )
    plain = config.num_parameters - config.linear_parameters
    return int(config.linear_parameters * packed[quantization]) + plain * item


def kv_token_bytes(config: ModelConfig, item: int, *, columns: bool = False) -> int:
    """Bytes of one token's keys and values over all layers.

    Args:
        config: The checkpoint.
        item: Bytes per number; 1 brings a scale of four bytes per head along.
        columns: Whether keys are kept a second time, in columns of fp16.
    """
    head = 2 * config.head_dim * item + (8 if item == 1 else 0)
    return config.num_layers * config.num_kv_heads * (head + 2 * config.head_dim * columns)


def _item_bytes(parameter: str, name: str, known: dict[str, int]) -> int:
    size = known.get(name)
    if size is None:
        raise InvalidLoadOptionError(
            f"{parameter}={name!r:.60} is not known.",
            parameter=parameter,
            value=name,
            hint=f"Known: {', '.join(known)}.",
        )
    return size


def size_text(number: int) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"

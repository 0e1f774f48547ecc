"""ScriptedStep: all layers of a step of decoding rows on CPU, in one call. It knows no requests.

A step of a small model is hundreds of operations of some microseconds each, and Python takes about
as long to call one as the processor to compute it. The same operations written in TorchScript are
run by torch's own interpreter, without Python between them and without its lock, so other threads
go on meanwhile. They are those of ``Decoder``, ``Pointwise`` and of what attends with decoding
rows, one by one and in their order: the numbers are the same bits.

What it cannot do is left to these: prompts, shared prefixes, adapters, weights of other layouts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.engine.attention.cpu import RunAttention
from aquila2_runtime.engine.linear import PackedProjection
from aquila2_runtime.engine.pointwise import even_shares
from aquila2_runtime.engine.row_slices import FEW
from aquila2_runtime.engine.small_linear import SmallProjection

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.attention.cache import PagedKVCache
    from aquila2_runtime.engine.attention.plan import AttentionPlan
    from aquila2_runtime.engine.linear import Projection

_log = logging.getLogger(__name__)

_Known = PackedProjection | SmallProjection

_SOURCE: Final = """
def multiply(states: Tensor, weight: Tensor, packed: bool) -> Tensor:
    if packed:
        scalars = torch.jit.annotate(List[Optional[number]], [])
        return torch.ops.mkldnn._linear_pointwise(states, weight, None, "none", scalars, "")
    return torch.mm(states, weight)


def product(states: Tensor, weight: Tensor, kind: Tuple[bool, int, int]) -> Tensor:
    packed, least, most = kind
    rows = states.size(0)
    if rows < least:
        padded = torch.constant_pad_nd(states, [0, 0, 0, least - rows])
        return multiply(padded, weight, packed).narrow(0, 0, rows)
    if most > 0 and rows > most:
        return torch.cat([multiply(some, weight, packed) for some in states.split(most)])
    return multiply(states, weight, packed)


def project_(states: Tensor, weight: Tensor, kind: Tuple[bool, int, int], out: Tensor):
    if kind[0] or states.size(0) < kind[1]:
        out.copy_(product(states, weight, kind))
    else:
        torch.mm(states, weight, out=out)


def norm(hidden: Tensor, weight: Tensor, eps: Tensor, dtype: int) -> Tensor:
    length = torch.ops.aten.linalg_vector_norm(hidden, 2, [-1], True)
    scale = torch.addcmul(eps, length, length, value=1 / weight.size(0)).rsqrt_()
    return torch.mul(hidden * scale, weight).to(dtype)


def gate(gate_up: Tensor, shares: List[int]) -> Tensor:
    opening, up = gate_up.chunk(2, -1)
    if len(shares) == 1:
        return torch.ops.aten.silu(opening).mul_(up)
    parts = [torch.ops.aten.silu(rows) for rows in opening.split_with_sizes(shares)]
    return torch.cat(parts).mul_(up)


def attend(
    query: Tensor, keys: Tensor, values: Tensor, products: Tensor, scores: Tensor,
    groups: List[Tensor], mask: Tensor, places: Tensor, starts: Tensor,
) -> Tensor:
    scale = query.size(1) ** -0.5
    torch.ops.aten.sparse_sampled_addmm(
        products, query, keys, beta=0.0, alpha=scale, out=products
    )
    scores.add_(mask)
    for group in groups:
        torch.ops.aten._softmax(group, -1, False, out=group)
    return torch.embedding_bag(values, places, starts, False, 0, False, scores, True)[0]


def attend_columns(
    scaled: Tensor, keys: Tensor, values: Tensor, lines: Tensor, line_starts: Tensor,
    line_rows: Tensor, scores: Tensor, groups: List[Tensor], hidden: Tensor, places: Tensor,
    starts: Tensor,
) -> Tensor:
    weights = scaled.index_select(0, line_rows).view(-1)
    found = torch.embedding_bag(keys, lines, line_starts, False, 0, False, weights, True)[0]
    scores.copy_(found.view(-1))
    scores.masked_fill_(hidden, float("-inf"))
    for group in groups:
        torch.ops.aten._softmax(group, -1, False, out=group)
    shares = scores.to(torch.bfloat16)
    return torch.embedding_bag(values, places, starts, False, 0, False, shares, True)[0]


def layers(
    hidden: Tensor, normed: Tensor, cos: Tensor, sin: Tensor, slots: Tensor,
    weights: List[List[Tensor]], caches: List[List[Tensor]], kinds: List[Tuple[bool, int, int]],
    shares: List[int], columns: bool, seen: List[Tensor], groups: List[Tensor],
    eps: Tensor, heads: int, kv_heads: int, dim: int, dtype: int,
) -> Tensor:
    rows = hidden.size(0)
    # One memory and one set of views for all layers: making them takes as long as using them.
    states = torch.empty([rows, heads + 2 * kv_heads, dim], dtype=torch.float)
    queries = torch.empty([rows, heads, dim], dtype=torch.float)
    projected, query_lines = states.view(rows, -1), queries.view(-1, dim)
    first, second = states.narrow(1, 0, heads + kv_heads).chunk(2, -1)
    query, stored = states.split_with_sizes([heads, 2 * kv_heads], 1)
    stored = stored.transpose(0, 1)
    own = states.narrow(1, heads, kv_heads)
    scaled = torch.empty([rows, heads, dim], dtype=torch.half)
    scaled_lines, scale = scaled.view(-1, dim), torch.full([1], dim ** -0.5)
    crossed = torch.empty([rows, heads + kv_heads, dim // 2], dtype=torch.float)
    for layer, cache in zip(weights, caches):
        qkv, output, post_norm, gate_up, down, next_norm = layer
        lines = cache[0]
        project_(normed, qkv, kinds[0], projected)
        torch.mul(first, sin, out=crossed)
        first.mul_(cos).addcmul_(second, sin, value=-1)
        second.mul_(cos).add_(crossed)
        lines.index_copy_(1, slots, stored.to(lines.dtype))
        if columns:
            cache[3][seen[7], :, seen[8]] = own.to(torch.half).view(rows, -1)
            torch.mul(query, scale, out=scaled)
            mixed = attend_columns(
                scaled_lines, cache[1], cache[2], seen[0], seen[1], seen[2], seen[3], groups,
                seen[4], seen[5], seen[6],
            )
        else:
            queries.copy_(query)
            mixed = attend(
                query_lines, cache[1], cache[2], seen[0], seen[1], groups, seen[2], seen[3],
                seen[4],
            )
        hidden.add_(product(mixed.view(rows, -1).to(dtype), output, kinds[1]))
        inner = gate(product(norm(hidden, post_norm, eps, dtype), gate_up, kinds[2]), shares)
        hidden.add_(product(inner, down, kinds[3]))
        normed = norm(hidden, next_norm, eps, dtype)
    return normed
"""


class ScriptedStep:
    """Runs the layers.

    Args:
        weights: Every layer's, in the order in which ``layers`` above takes them.
        kinds: Of qkv, output, gate_up and down: whether they are packed, to how many rows fewer
            are padded, and how many are multiplied at a time; 0 for all.
        config: The checkpoint's facts.
        dtype: Of what the projections multiply.
    """

    def __init__(
        self,
        weights: list[list[torch.Tensor]],
        kinds: list[tuple[bool, int, int]],
        config: ModelConfig,
        dtype: torch.dtype,
    ) -> None:
        self._weights, self._kinds, self._config, self._dtype = weights, kinds, config, dtype
        self._eps = torch.full((1, 1), config.rms_norm_eps)
        # Its own: torch prepares a function for what it is called with first.
        self._layers: Any = torch.jit.CompilationUnit(_SOURCE).layers
        self._caches: tuple[PagedKVCache, list[list[torch.Tensor]]] | None = None

    def run(
        self,
        hidden: torch.Tensor,
        normed: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor],
        attention: Attention,
        plan: AttentionPlan,
    ) -> torch.Tensor | None:
        """Compute a step, if it is one of decoding rows alone.

        Args:
            hidden: The sum over the layers at its beginning, fp32; added to in place.
                ``[rows, hidden]``.
            normed: Its norm for the first layer.
            turns: Cosines and sines of the rows' positions. ``[rows, 1, head_dim / 2]`` each.
            attention: Keys, values and how they are read.
            plan: What each row may see.

        Returns:
            Hidden states after the final norm, or None where nothing was done.
        """
        if not isinstance(attention, RunAttention):
            return None
        listing = attention.rows_alone(plan, self._config.num_heads)
        if listing is None:
            return None
        shares = even_shares(
            hidden.shape[0], self._config.intermediate_size, torch.get_num_threads()
        )
        seen, groups = attention.seen(listing, plan.slots)
        found: torch.Tensor = self._layers(
            hidden, normed, *turns, plan.slots,
            self._weights, self._caches_of(attention), self._kinds, shares,
            bool(attention.cache.columns), seen, groups,
            self._eps, self._config.num_heads, self._config.num_kv_heads,
            self._config.head_dim, self._dtype,
        )  # fmt: skip
        return found

    def _caches_of(self, attention: RunAttention) -> list[list[torch.Tensor]]:
        """What ``layers`` takes of a cache, made once."""
        cache = attention.cache
        if self._caches is None or self._caches[0] is not cache:
            each = zip(cache.lines, attention.stored(), strict=True)
            self._caches = cache, [[lines, *others] for lines, others in each]
        return self._caches[1]


def scripted_step(
    layers: Sequence[tuple[Sequence[Projection], Sequence[torch.Tensor]]],
    config: ModelConfig,
    dtype: torch.dtype,
) -> ScriptedStep | None:
    """A step for a model, or None where its layers are made of other weights.

    Args:
        layers: Of every layer qkv, output, gate_up and down, and its second norm's weight and that
            of what follows it.
        config: The checkpoint's facts.
        dtype: Of what the projections multiply.
    """
    weights: list[list[torch.Tensor]] = []
    kinds: list[tuple[bool, int, int]] = []
    for projections, (post_norm, next_norm) in layers:
        known = [
            item for item in projections if isinstance(item, PackedProjection | SmallProjection)
        ]
        if len(known) < len(projections):
            return None
        qkv, output, gate_up, down = (item.weight for item in known)
        weights.append([qkv, output, post_norm, gate_up, down, next_norm])
        kinds = [_kind(item) for item in known]
    try:
        return ScriptedStep(weights, kinds, config, dtype)
    except RuntimeError as error:
        _log.warning(
            "steps on CPU are run from Python, for torch cannot read their script: %s", error
        )
        return None


def _kind(projection: _Known) -> tuple[bool, int, int]:
    """How a projection is multiplied by (see ``ScriptedStep``)."""
    if isinstance(projection, SmallProjection):
        return False, projection.least, 0
    return True, projection.least, 0 if projection.many is None else FEW

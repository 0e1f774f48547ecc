"""LoraBank: the low-rank updates of every adapter beside one base model. It reads no files.

A projection ``W`` with the adapter ``i`` computes ``x W' + s_i (x A_i') B_i'``. For every fused
projection the matrices of all adapters are stacked: ``A`` is ``[ranks, in]`` and ``B`` is
``[out, ranks]``, where each rank belongs to one adapter. A step multiplies all of its
rows by both and, in between, zeroes for each row what belongs to other adapters. So requests of
any adapters, and of none, share a step: shapes do not depend on who is in it, and what is added
to a row without an adapter is exactly zero.

The price grows with the sum of the ranks: at 7B, sixteen adapters of rank 8 make it 3 % of the
base model's own work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import torch

from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.linear import WeightProjection, linear
from aquila2_runtime.errors import WeightsError

if TYPE_CHECKING:
    from aquila2_runtime.checkpoint.config import ModelConfig

# The decoder's fused projections, each with the parts of its output in order.
SITES: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "output": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
_NOBODY: Final = -1

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class _Site:
    """The stacked matrices of one fused projection in one layer, held as they are multiplied.

    Their products do not depend on the other rows either (see ``linear``).
    """

    shrink: WeightProjection  # by [ranks, in]
    grow: WeightProjection  # by [out, ranks], scaled
    owners: tuple[int, ...]  # the adapter each rank belongs to


class LoraBank:
    """Adapters of one model, by key; they are added and never change.

    Args:
        config: The base model's facts.
        dtype: Type they are computed in.
        devices: Where they live: of each layer, or one for all.
    """

    def __init__(
        self,
        config: ModelConfig,
        dtype: torch.dtype,
        devices: torch.device | Sequence[torch.device],
    ) -> None:
        self._dtype = dtype
        if isinstance(devices, torch.device):
            devices = [devices] * config.num_layers
        self._devices = devices
        self._numbers: dict[str, int] = {}
        self._sites: dict[tuple[int, str], _Site] = {}
        query, key = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self._outputs = {
            "q_proj": query,
            "k_proj": key,
            "v_proj": key,
            "o_proj": config.hidden_size,
            "gate_proj": config.intermediate_size,
            "up_proj": config.intermediate_size,
            "down_proj": config.hidden_size,
        }

    def __contains__(self, key: str) -> bool:
        """Whether an adapter is there."""
        return key in self._numbers

    @property
    def num_bytes(self) -> int:
        """Memory of the stacked matrices."""
        return sum(site.shrink.num_bytes + site.grow.num_bytes for site in self._sites.values())

    @torch.inference_mode()
    def add(self, key: str, pairs: Mapping[tuple[int, str], Pair], scaling: float) -> None:
        """Add an adapter; one that is there already is left as it is.

        Args:
            key: What requests will name.
            pairs: A ``[rank, in]`` and B ``[out, rank]`` by layer and projection.
            scaling: What their product is multiplied by.

        Raises:
            WeightsError: A scaled B is more than the type can hold.
        """
        if key in self._numbers:
            return
        number = len(self._numbers)
        added: dict[tuple[int, str], _Site] = {}
        for layer in sorted({layer for layer, _ in pairs}):
            for site, parts in SITES.items():
                own = [(part, pairs[layer, part]) for part in parts if (layer, part) in pairs]
                if own:
                    added[layer, site] = self._grown(layer, site, number, own, scaling)
        # Only once all of it is there: a failure above leaves the bank as it was.
        self._sites |= added
        self._numbers[key] = number

    def step(self, rows: Sequence[tuple[str | None, int]]) -> LoraStep | None:
        """Say which adapter each row of a step uses.

        Args:
            rows: Key (None for the base model) and number of rows, in the step's order.

        Returns:
            The step's updates; None when every row uses the base model.
        """
        if all(key is None for key, _ in rows):
            return None
        numbers = [
            number
            for key, count in rows
            for number in [_NOBODY if key is None else self._numbers[key]] * count
        ]
        return LoraStep(self._sites, brought(numbers, self._devices[0]))

    def _grown(
        self,
        layer: int,
        site: str,
        number: int,
        own: Sequence[tuple[str, Pair]],
        scaling: float,
    ) -> _Site:
        """A site's matrices with those of one more adapter below them."""
        parts, device = SITES[site], self._devices[layer]
        width = sum(self._outputs[part] for part in parts)
        downs: list[torch.Tensor] = []
        ups: list[torch.Tensor] = []
        owners: list[int] = []
        before = self._sites.get((layer, site))
        if before is not None:
            downs, ups = [before.shrink.plain()], [before.grow.plain()]
            owners = list(before.owners)
        for part, (down, up) in own:
            start = sum(self._outputs[name] for name in parts[: parts.index(part)])
            rank = down.shape[0]
            # Zero where the fused output belongs to the other parts.
            wide = torch.zeros(width, rank, dtype=self._dtype, device=device)
            scaled = (up.float() * scaling).to(self._dtype)
            # It would reach rows of other adapters: 0 * infinity is NaN.
            if not scaled.isfinite().all():
                raise _too_large(layer, part, self._dtype)
            wide[start : start + up.shape[0]] = scaled.to(device)
            downs.append(down.to(self._dtype).to(device))
            ups.append(wide)
            owners += [number] * rank
        return _Site(linear(torch.cat(downs)), linear(torch.cat(ups, dim=1)), tuple(owners))


class LoraStep:
    """The updates of one step: which adapter each row uses.

    Args:
        sites: The stacked matrices by layer and site.
        numbers: The adapter of each row, -1 for none. ``[rows]``.
    """

    def __init__(self, sites: Mapping[tuple[int, str], _Site], numbers: torch.Tensor) -> None:
        self._sites = sites
        self._numbers = numbers
        self._foreign: dict[tuple[tuple[int, ...], torch.device], torch.Tensor] = {}

    def add(
        self, layer: int, site: str, states: torch.Tensor, projected: torch.Tensor
    ) -> torch.Tensor:
        """Add the adapters' part to what a base projection gave.

        Args:
            layer: Index of the layer.
            site: Which of ``SITES``.
            states: What was projected. ``[rows, in]``.
            projected: What came out. ``[rows, out]``.
        """
        found = self._sites.get((layer, site))
        if found is None:
            return projected
        # Filled, not multiplied: what another adapter made of this row may be infinite.
        shrunk = found.shrink(states).masked_fill_(self._not_own(found.owners, states.device), 0)
        return projected + found.grow(shrunk)

    def _not_own(self, owners: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """True where a rank does not belong to the row's adapter. ``[rows, ranks]``.

        Layers have mostly the same owners, so a step makes few of these.
        """
        foreign = self._foreign.get((owners, device))
        if foreign is None:
            columns = brought(owners, device)
            numbers = self._numbers.to(device, non_blocking=True)
            foreign = self._foreign[owners, device] = numbers[:, None] != columns[None, :]
        return foreign


def _too_large(layer: int, part: str, dtype: torch.dtype) -> WeightsError:
    return WeightsError(
        f"The adapter's update of layer {layer}'s {part} is more than "
        f"{str(dtype).removeprefix('torch.')} can hold.",
        parameter=part,
        hint='The adapter is damaged, or load with dtype="bfloat16" or "float32".',
    )

"""StaticStep: one decoding step with fixed shapes and buffers, sampling included. No requests.

A step of n rows runs in the smallest bucket that holds them, padded. Nothing in it depends on data
or comes from the host, so on CUDA each bucket is captured once as a graph and replayed: hundreds of
launches become one. Elsewhere the same code runs as it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from aquila2_runtime.engine.attention.plan import AttentionPlan
from aquila2_runtime.engine.crossing import brought
from aquila2_runtime.engine.static_sampler import sample_static

if TYPE_CHECKING:
    from aquila2_runtime.engine.attention.base import Attention
    from aquila2_runtime.engine.decoder import Decoder
    from aquila2_runtime.engine.device_rows import DeviceRows

BUCKETS: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
_WARM_UPS: Final = 2


@dataclasses.dataclass(slots=True)
class _Bucket:
    places: torch.Tensor
    found: torch.Tensor
    shown: list[int]  # what ``places`` holds
    graph: torch.cuda.CUDAGraph | None = None


class StaticStep:
    """Runs steps over the places of ``rows``.

    Args:
        decoder: The model.
        attention: Its keys and values.
        rows: The requests' places.
        n_ids: Ids that may be chosen; those above are never.
        capture: Whether to record CUDA graphs.
    """

    def __init__(
        self,
        decoder: Decoder,
        attention: Attention,
        rows: DeviceRows,
        n_ids: int,
        *,
        capture: bool,
    ) -> None:
        self._decoder = decoder
        self._attention = attention
        self._rows = rows
        self._n_ids = n_ids
        self._buckets: dict[tuple[int, bool], _Bucket] = {}
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        sizes = bucket_sizes(rows.padding)
        # The largest first: the memory it takes serves all the others.
        for size in reversed(sizes):
            for drawn in (True, False):
                self._buckets[size, drawn] = self._make(size, drawn, capture=capture)
        self._sizes = sizes
        if capture:
            # What the warm-ups left to their stream; the graphs keep what is theirs.
            torch.cuda.empty_cache()

    def run(self, places: Sequence[int], *, drawn: bool) -> torch.Tensor:
        """Compute one token of each place.

        Args:
            places: Different places; at most the largest bucket's size.
            drawn: Whether any of them is not greedy.

        Returns:
            The chosen ids; a buffer that the next step may overwrite. ``[len(places)]``.
        """
        size = next(size for size in self._sizes if size >= len(places))
        bucket = self._buckets[size, drawn]
        padded = [*places, *[self._rows.padding] * (size - len(places))]
        if padded != bucket.shown:
            bucket.places.copy_(brought(padded, self._rows.device))
            bucket.shown = padded
        if bucket.graph is None:
            self._step(bucket, drawn)
        else:
            bucket.graph.replay()
        return bucket.found[: len(places)]

    def _make(self, size: int, drawn: bool, *, capture: bool) -> _Bucket:
        device = self._rows.device
        shown = [self._rows.padding] * size
        bucket = _Bucket(
            torch.tensor(shown, device=device), torch.zeros(size, dtype=torch.int64, device=device),
            shown,
        )  # fmt: skip
        if capture:
            self._capture(bucket, drawn)
        return bucket

    def _capture(self, bucket: _Bucket, drawn: bool) -> None:
        """Record the step over padding alone: it changes nothing that is read."""
        if self._stream is None:
            # One for all of them: the matrix library keeps a workspace per stream.
            self._stream = torch.cuda.Stream(self._rows.device)
        current = torch.cuda.current_stream(self._rows.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):  # kernels are compiled and libraries set up
                self._step(bucket, drawn)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        try:
            # Another model's thread may allocate meanwhile; only this thread's calls are recorded.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                self._step(bucket, drawn)
        except BaseException:
            # Where ending the record fails too, torch leaves the thread on the record's stream, and
            # its allocator in the record's pool.
            torch.cuda.set_stream(current)
            with contextlib.suppress(RuntimeError, AttributeError):
                torch._C._cuda_endAllocateToPool(current.device_index, self._pool)
            raise
        bucket.graph = graph

    @torch.inference_mode()
    def _step(self, bucket: _Bucket, drawn: bool) -> None:
        rows, places = self._rows, bucket.places
        positions, tables = rows.positions[places], rows.tables[places]
        hidden = self._decoder.forward(
            rows.ids[places], positions, self._attention, self._plan(positions, tables)
        )
        logits = self._decoder.logits(hidden)[:, : self._n_ids]
        chosen = sample_static(logits, rows.sampling(places), drawn=drawn)
        rows.advance(places, chosen)
        bucket.found.copy_(chosen)

    def _plan(self, positions: torch.Tensor, tables: torch.Tensor) -> AttentionPlan:
        size = self._attention.cache.block_size
        blocks = tables.gather(1, (positions // size)[:, None])[:, 0].long()
        lengths = (positions + 1).int()
        mask = None
        if not self._attention.reads_lengths:
            at = torch.arange(tables.shape[1] * size, device=positions.device)
            hidden = at[None, :] >= lengths[:, None]
            mask = torch.zeros(hidden.shape, device=positions.device)
            mask = mask.masked_fill(hidden, float("-inf"))
        return AttentionPlan(
            blocks * size + positions % size, positions.shape[0], tables, mask, (), lengths
        )


def bucket_sizes(most: int) -> tuple[int, ...]:
    """The sizes that serve up to ``most`` rows; the largest is ``most`` itself or the next above.

    Beyond the table sizes go on in steps of 32.
    """
    sizes = [size for size in BUCKETS if size < most]
    above = [size for size in BUCKETS if size >= most]
    if above:
        return (*sizes, above[0])
    return (*sizes, *range(BUCKETS[-1] + 32, most + 32, 32))

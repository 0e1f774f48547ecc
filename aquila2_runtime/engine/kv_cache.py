"""BlockPool: which KV blocks are free, held or reusable as a prefix. It holds numbers, no tensors.

A block keeps the keys and values of ``block_size`` consecutive tokens of every layer. Block 0 is
never handed out: padded block tables point at it.

Full blocks are entered into a prefix index, a tree whose edges are the blocks' token ids. A lookup
compares the ids themselves, so two texts never share a block by a collision of hashes, and each
``cache_key`` (salt, adapter) has a root of its own. A block nobody holds stays in the index until
its place is needed; the least recently used goes first, and leaves before their parents.

Blocks are handed out in runs of consecutive numbers where there are any (see ``free_runs``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from aquila2_runtime.engine.free_runs import GAP, FreeRuns

_Edge = tuple[int | tuple[str, ...], tuple[int, ...]]


class BlockPool:
    """Hands out, shares and takes back blocks.

    Args:
        num_blocks: Blocks that can be held (block 0 comes on top).
        block_size: Tokens per block.
        prefix_cache: Whether full blocks are kept for later requests.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_cache = prefix_cache
        self._references = [0] * (num_blocks + 1)
        self._empty = FreeRuns(range(1, num_blocks + 1))  # free, and nothing in them is of use
        # Free blocks that hold a prefix, least recently used first; the keys are block numbers.
        self._reusable: OrderedDict[int, None] = OrderedDict()
        self._edges: dict[_Edge, int] = {}  # (parent node, ids) -> node
        self._node_block: dict[int, int] = {}  # node -> block
        self._block_node: dict[int, tuple[int, _Edge]] = {}  # block -> its node and edge
        self._next_node = 1

    @property
    def num_free(self) -> int:
        """Blocks that can be handed out, reusable ones included."""
        return len(self._empty) + len(self._reusable)

    @property
    def num_in_use(self) -> int:
        """Blocks held by requests."""
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        """Free blocks that hold a reusable prefix."""
        return len(self._reusable)

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that ``num_tokens`` tokens need."""
        return -(-num_tokens // self.block_size)

    def match(
        self, token_ids: Sequence[int], cache_key: tuple[str, ...]
    ) -> tuple[list[int], list[int]]:
        """Find the longest cached prefix, leaving at least one token to compute.

        Returns:
            The blocks and their index nodes, in order; nothing is held yet.
        """
        blocks: list[int] = []
        nodes: list[int] = []
        if not self.prefix_cache:
            return blocks, nodes
        parent: int | tuple[str, ...] = cache_key
        size = self.block_size
        for start in range(0, len(token_ids) - size, size):
            node = self._edges.get((parent, tuple(token_ids[start : start + size])))
            if node is None:
                break
            blocks.append(self._node_block[node])
            nodes.append(node)
            parent = node
        return blocks, nodes

    def hold(self, blocks: Sequence[int]) -> None:
        """Add a reference to each of these (matched) blocks."""
        for block in blocks:
            if self._references[block] == 0:
                del self._reusable[block]
            self._references[block] += 1

    def free_beside(self, blocks: Sequence[int]) -> int:
        """Blocks that could still be handed out once these (matched) ones were held."""
        return self.num_free - sum(1 for block in blocks if self._references[block] == 0)

    def allocate(self, count: int, after: int | None = None) -> list[int] | None:
        """Hand out blocks, or None if there are not enough.

        Prefixes make room only when the empty blocks run out, the least recently used first.

        Args:
            count: How many.
            after: The block before them, so that they follow it if they can.
        """
        if count > self.num_free:
            return None
        lacking = count - len(self._empty)
        # A few more at once: single blocks from all over the pool would make no runs.
        more = min(GAP, self.num_blocks // 32)
        if lacking > 0 or (after is not None and not self._empty.goes_on(after, more)):
            self._evict(max(lacking, 0) + more)
        taken = self._empty.take(count, after)
        for block in taken:
            self._references[block] = 1
        return taken

    def release(self, blocks: Sequence[int]) -> None:
        """Give references back; the last block first, so that leaves are reused before parents."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                if block in self._block_node:
                    self._reusable[block] = None
                else:
                    self._empty.add(block)

    def enter(
        self,
        token_ids: Sequence[int],
        num_computed: int,
        blocks: list[int],
        nodes: list[int],
        cache_key: tuple[str, ...],
    ) -> list[int]:
        """Enter a request's newly full blocks into the index; extends ``nodes`` in place.

        Returns:
            The request's blocks from now on. Where the index has one of them already (two requests
            computed the same side by side), this one was given back and that one is held instead;
            it is then another list, so that whoever keeps a copy can tell.
        """
        if not self.prefix_cache:
            return blocks
        size = self.block_size
        for index in range(len(nodes), num_computed // size):
            parent: int | tuple[str, ...] = nodes[index - 1] if index else cache_key
            edge: _Edge = (parent, tuple(token_ids[index * size : (index + 1) * size]))
            node = self._edges.get(edge)
            if node is None:
                node = self._next_node
                self._next_node += 1
                block = blocks[index]
                self._edges[edge] = node
                self._node_block[node] = block
                self._block_node[block] = (node, edge)
            elif (known := self._node_block[node]) != blocks[index]:
                self.hold([known])
                self.release([blocks[index]])
                blocks = [*blocks[:index], known, *blocks[index + 1 :]]
            nodes.append(node)
        return blocks

    def clear(self) -> None:
        """Forget every reusable prefix; blocks that are held stay held."""
        self._evict(len(self._reusable))
        for block in list(self._block_node):
            self._forget(block)

    def _evict(self, count: int) -> None:
        for _ in range(min(count, len(self._reusable))):
            block, _ = self._reusable.popitem(last=False)
            self._forget(block)
            self._empty.add(block)

    def _forget(self, block: int) -> None:
        node, edge = self._block_node.pop(block)
        del self._edges[edge]
        del self._node_block[node]

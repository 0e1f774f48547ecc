"""Leaders: which running request computes a prefix that another one waits for. They run nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from aquila2_runtime.engine.sharing import common_length

if TYPE_CHECKING:
    from aquila2_runtime.engine.kv_cache import BlockPool
    from aquila2_runtime.engine.request import Request

# When another request computes so many shared blocks, they are worth a step's delay.
_MIN_AWAITED_BLOCKS: Final = 8


def find_leader(
    request: Request, running: Sequence[Request], pool: BlockPool
) -> tuple[Request, int] | None:
    """The running request that will compute most of a waiting one's prefix, and how many tokens.

    Args:
        request: The one that waits.
        running: Those on the device.
        pool: Their blocks; what it has cached already needs nobody.
    """
    key, size = request.spec.cache_key, pool.block_size
    reading = [other for other in running if not other.decoding and other.spec.cache_key == key]
    if not reading or not pool.prefix_cache or request.wants_prompt_logprobs:
        return None
    # Whole blocks, and at least one token of its own is left to compute.
    own = request.token_ids[:-1]
    best, most = None, len(pool.match(own, key)[0])
    for other in reading:
        shared = common_length(other.token_ids, own) // size
        its_work = shared - (other.num_cached or 0) // size
        if shared > most and its_work >= _MIN_AWAITED_BLOCKS and other.num_computed < shared * size:
            best, most = (other, shared * size), shared
    return best

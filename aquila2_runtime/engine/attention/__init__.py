"""Attention over paged keys and values: the plan of a step, the cache, and its implementations."""

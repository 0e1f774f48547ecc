"""Benchmarks: the same work through this runtime and others, side by side in one run."""

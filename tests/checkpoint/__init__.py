"""Tests of names, downloads, configuration, weight files, loading and the memory estimate."""

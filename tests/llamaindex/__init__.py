"""Tests of the LlamaIndex adapter on the demo checkpoint."""

"""Checkpoints: where they are, whether they are sound, and their weights. It serves no request."""

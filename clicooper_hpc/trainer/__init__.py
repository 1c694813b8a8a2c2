"""Ranks 1..N: one segment each, the release cache, the training loop."""

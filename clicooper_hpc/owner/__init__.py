"""Rank 0: data, front, release, label map, privacy ledger, delivery and evaluation."""

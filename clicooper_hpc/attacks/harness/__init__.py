"""Recorded run to table: what attackers hold, which attacks run where, and their results."""

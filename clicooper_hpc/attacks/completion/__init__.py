"""Attacks that complete a trainer's own segments into a whole network."""

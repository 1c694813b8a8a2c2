"""Attacks that steal the delivered network."""

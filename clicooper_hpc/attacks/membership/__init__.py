"""Attacks that tell whether a known image was trained on."""

"""Attacks that reconstruct images from released rows."""

"""Attacks that infer properties of training images that are not the task."""

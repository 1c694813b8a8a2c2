"""Attacks on the label map: which sub-labels belong to one class."""

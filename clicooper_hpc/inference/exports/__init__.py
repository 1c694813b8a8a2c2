"""The delivered model in formats that need nothing of this package."""

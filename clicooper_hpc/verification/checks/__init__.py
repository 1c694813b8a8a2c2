"""The numbered checks of a verification."""

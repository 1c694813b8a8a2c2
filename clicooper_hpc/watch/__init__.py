"""A run in a terminal while it goes on, read from its folder alone as a stranger reads it."""

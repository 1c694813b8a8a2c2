"""Start, restart and end a run on all ranks."""

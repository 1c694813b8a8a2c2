"""Train one stage of a run again in one process and compare it with what its trainers claim."""

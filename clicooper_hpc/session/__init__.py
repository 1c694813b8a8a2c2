"""One rank's life: from the start of MPI to the exit code."""

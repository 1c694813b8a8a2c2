"""Starting the ranks of a run from a process that is none of them, without MPI and torch in it."""

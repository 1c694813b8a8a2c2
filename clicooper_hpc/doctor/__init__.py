"""Checks of machine and MPI launch before a run: facts of every rank, rules, report."""

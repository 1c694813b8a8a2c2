"""Check a run's signed statements, ledger and marks from its folder alone."""

"""Is this machine, and this launch, fit for a run? Probes, rules and their report."""

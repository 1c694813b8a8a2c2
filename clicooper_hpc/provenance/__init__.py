"""Identities, signed statements, the ledger and marks: who trained what, in which order."""

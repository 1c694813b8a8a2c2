"""Take clock and chance out of a run, so that two runs write the same proofs and the same marks.

Noise, weights and data order follow from seeds as they are. Here the rest is fixed: mark keys,
ticket nonces, run id, times, and the digests of tables, which hold times.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

__all__ = ["freeze"]

_THEN = datetime(2026, 1, 1, tzinfo=UTC)


def _rank() -> str:
    """Return the rank as the launcher tells it, before MPI has started."""
    return os.environ.get("PMI_RANK") or os.environ["OMPI_COMM_WORLD_RANK"]


def freeze() -> None:
    """Fix what differs between two runs of a job."""

    def module(name: str) -> Any:
        return import_module(f"clicooper_hpc.{name}")

    def token_bytes(count: int) -> bytes:
        return hashlib.sha256(f"rank {_rank()}".encode()).digest()[:count]

    def token_hex(count: int) -> str:
        place = sys._getframe(1).f_locals
        text = f"stage {place['stage']} segment {place['segment']}"
        return hashlib.sha256(text.encode()).hexdigest()[: 2 * count]

    digest = module("digests").digest_bytes("test", b"")
    module("run.credentials").secrets = SimpleNamespace(token_bytes=token_bytes)
    module("owner.ledger_writer").secrets = SimpleNamespace(token_hex=token_hex)
    module("run.start").uuid = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="a" * 32))
    module("run.index_text").datetime = SimpleNamespace(now=lambda zone: _THEN)
    module("trainer.prover")._now = lambda: _THEN.isoformat()
    writer = module("runstore.tables.writer").TableWriter
    take_digest = writer.take_digest
    writer.take_digest = lambda self: (take_digest(self), digest)[1]
    module("runstore.signed_digests").IndexContent.digest = lambda self: digest

"""Where one rank's part of a run begins: the start, or a checkpoint and what is proved already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from clicooper_hpc.runstore.tables.writer import KeptRows
from clicooper_hpc.training.stage_progress import StageProgress

__all__ = ["RestartPoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPoint:
    """State one rank begins with; every field but ``step`` may differ from rank to rank.

    Attributes
    ----------
    step
        Steps done in the checkpoint; 0: none, from the initial weights.
    proved_step
        First step that no proof in the ledger speaks of. It may lie behind ``step``, for the ledger
        is never taken back while a damaged checkpoint is.
    state
        Trainers: tensors of the segment, named as in `clicooper_hpc.training.segment_state`; None
        at step 0.
    stage_progress
        What the checkpoint holds of the stage it lies in; None at step 0 or without provenance.
    ledger_entries
        Owner: the envelopes of the ledger that stand, in order.
    stored_checkpoints
        Owner: how many signed checkpoints of the ledger are stored with them.
    heads
        Trainers: size and root (hex) of the ledger each time this rank saw it grow.
    notes
        Trainers: the owner's signed notes behind them, in the same order.
    messages
        Trainers: rows of the table ``messages`` that stay.
    has_ledger
        Whether the owner's ledger has begun, so that nobody enrols again.
    is_closed
        Owner: whether the delivery is signed, so that no figure may change.
    rows
        Rows of this rank's tables that stay; None on a fresh start, which makes new files.
    """

    step: int
    # Apart from ``step``: proved stages may have to be trained again, and are then only compared.
    proved_step: int
    state: Mapping[str, Tensor] | None = None
    stage_progress: StageProgress | None = None
    ledger_entries: tuple[bytes, ...] = ()
    stored_checkpoints: int = 0
    heads: Sequence[tuple[int, str]] = ()
    notes: Sequence[str] = ()
    messages: int = 0
    has_ledger: bool = False
    is_closed: bool = False
    rows: KeptRows | None = None

    @classmethod
    def at_start(cls) -> RestartPoint:
        """Return the point a fresh run begins at: nothing done, nothing proved, nothing stored."""
        return cls(step=0, proved_step=0)

"""What of an earlier life's tables stays: pure rules over rows.

A trainer's rows of proved stages are signed and stay whatever happens; rows behind them stay up to
the checkpoint, for the stage goes on there. The owner's rows are signed once, at the end, and stay
up to the checkpoint; the ledger is never taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.runstore.tables.schema import (
    CHECKPOINTS,
    DIGESTED_TABLES,
    EVALUATION,
    HEADS,
    LEDGER,
    MESSAGES,
    PROVING,
    RELEASES,
    STEPS,
    TRAINING,
    Table,
)
from clicooper_hpc.runstore.tables.writer import EarlierRows
from clicooper_hpc.training.agenda import Agenda

__all__ = ["owner_rows", "trainer_rows"]

Rows = dict[str, np.ndarray[Any, Any]]
_Mask = np.ndarray[Any, np.dtype[np.bool_]]


def trainer_rows(
    tables: Mapping[Table, Rows], *, step: int, bounds: Sequence[int], proved: int, ledger: int
) -> EarlierRows:
    """Return what a trainer goes on behind.

    Parameters
    ----------
    tables
        Complete rows of the earlier life.
    step
        Steps done in the checkpoint.
    bounds
        First steps of the stages, and the number of steps.
    proved, ledger
        Proved stages and standing entries of the owner's ledger.
    """
    signed = bounds[proved]
    kept = _chosen(
        tables,
        {
            STEPS.name: lambda rows: rows["step"] < max(step, signed),
            TRAINING.name: lambda rows: rows["step"] < max(step, signed),
            MESSAGES.name: lambda rows: rows["stage"] < proved,
            PROVING.name: lambda rows: rows["stage"] < proved,
            HEADS.name: lambda rows: rows["size"] <= ledger,
        },
    )
    unsealed = {
        name: _where(kept[name], kept[name]["step"] >= signed)
        for name in (STEPS.name, TRAINING.name)
        if name in kept
    }
    return EarlierRows(kept, unsealed)


def owner_rows(
    tables: Mapping[Table, Rows],
    *,
    step: int,
    agenda: Agenda,
    order: LedgerOrder | None,
    ledger: int,
) -> EarlierRows:
    """Return what the owner goes on behind; see `trainer_rows`.

    ``order`` None: without provenance.
    """
    closed = order is not None and ledger == order.size
    validated = agenda.total_steps + agenda.validation_steps_before(step)

    def released(rows: Rows) -> _Mask:
        at: _Mask = rows["step"]
        return (at < step) | ((at >= agenda.total_steps) & (at < validated))

    kept = _chosen(
        tables,
        {
            STEPS.name: lambda rows: (rows["step"] < step) | closed,
            EVALUATION.name: lambda rows: (rows["step"] < step) | closed,
            RELEASES.name: lambda rows: released(rows) | closed,
            LEDGER.name: lambda rows: rows["entry"] < ledger,
            # The last one is stored with its cosigners, which are asked again.
            CHECKPOINTS.name: lambda rows: (
                (rows["size"] <= ledger)
                & (rows["size"] < (np.iinfo(np.int64).max if order is None else order.size))
            ),
        },
    )
    sealed = {table.name for table in DIGESTED_TABLES}
    return EarlierRows(kept, {name: rows for name, rows in kept.items() if name in sealed})


def _chosen(
    tables: Mapping[Table, Rows], rules: Mapping[str, Callable[[Rows], Any]]
) -> dict[str, Rows]:
    return {
        table.name: _where(rows, rules[table.name](rows))
        for table, rows in tables.items()
        if table.name in rules
    }


def _where(rows: Rows, mask: Any) -> Rows:
    return {name: values[mask] for name, values in rows.items()}

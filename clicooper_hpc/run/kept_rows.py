"""Which rows of an interrupted run's tables a restart keeps: pure rules.

A trainer's rows of proved stages are signed and stay whatever happens; rows behind them stay up to
the checkpoint, where the stage continues. The owner's rows are signed once, at the end, and stay
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
from clicooper_hpc.runstore.tables.writer import KeptRows
from clicooper_hpc.training.run_plan import RunPlan

__all__ = ["keep_owner_rows", "keep_trainer_rows"]

Rows = dict[str, np.ndarray[Any, Any]]
_Mask = np.ndarray[Any, np.dtype[np.bool_]]


def keep_trainer_rows(
    tables: Mapping[Table, Rows], *, step: int, bounds: Sequence[int], proved: int, ledger: int
) -> KeptRows:
    """Return the rows of a trainer that stay.

    Parameters
    ----------
    tables
        Complete rows of the interrupted run.
    step
        Steps done in the checkpoint.
    bounds
        First steps of the stages, and the number of steps.
    proved, ledger
        Proved stages and standing entries of the owner's ledger.
    """
    signed = bounds[proved]
    # Messages and heads of a stage are written when it is proved: none lie between.
    kept = _keep_chosen(
        tables,
        {
            STEPS.name: lambda rows: rows["step"] < max(step, signed),
            TRAINING.name: lambda rows: rows["step"] < max(step, signed),
            MESSAGES.name: lambda rows: rows["stage"] < proved,
            PROVING.name: lambda rows: rows["stage"] < proved,
            HEADS.name: lambda rows: rows["size"] <= ledger,
        },
    )
    # The next proof covers the rows since the last one, so the seal has to begin with those that
    # stay.
    unsealed = {
        name: _keep_where(kept[name], kept[name]["step"] >= signed)
        for name in (STEPS.name, TRAINING.name)
        if name in kept
    }
    return KeptRows(kept, unsealed)


def keep_owner_rows(
    tables: Mapping[Table, Rows],
    *,
    step: int,
    plan: RunPlan,
    order: LedgerOrder | None,
    ledger: int,
) -> KeptRows:
    """Return the rows of the owner that stay; see `keep_trainer_rows`.

    ``order`` None: without provenance.
    """
    # The delivery is the last entry: with it the owner's tables are signed.
    closed = order is not None and ledger == order.size
    validated = plan.total_steps + plan.planned_validation_steps(step)

    def released(rows: Rows) -> _Mask:
        at: _Mask = rows["step"]
        # Validation steps are numbered behind the last training step, hence two ranges.
        return (at < step) | ((at >= plan.total_steps) & (at < validated))

    # Once the results are signed, nothing of what they were computed from may go.
    kept = _keep_chosen(
        tables,
        {
            STEPS.name: lambda rows: (rows["step"] < step) | closed,
            EVALUATION.name: lambda rows: (rows["step"] < step) | closed,
            RELEASES.name: lambda rows: released(rows) | closed,
            LEDGER.name: lambda rows: rows["entry"] < ledger,
            # Not the last checkpoint: it is stored with its cosigners, which are asked again.
            CHECKPOINTS.name: lambda rows: (
                (rows["size"] <= ledger)
                & (rows["size"] < (np.iinfo(np.int64).max if order is None else order.size))
            ),
        },
    )
    sealed = {table.name for table in DIGESTED_TABLES}
    return KeptRows(kept, {name: rows for name, rows in kept.items() if name in sealed})


def _keep_chosen(
    tables: Mapping[Table, Rows], rules: Mapping[str, Callable[[Rows], Any]]
) -> dict[str, Rows]:
    return {
        table.name: _keep_where(rows, rules[table.name](rows))
        for table, rows in tables.items()
        if table.name in rules
    }


def _keep_where(rows: Rows, mask: Any) -> Rows:
    return {name: values[mask] for name, values in rows.items()}

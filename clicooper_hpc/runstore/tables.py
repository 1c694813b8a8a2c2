"""What a run measures, as data: tables of columns with dtype, units and a long name.

Every rank writes some tables, one row per step (or per epoch, or per release). A row counts only
once its ``complete`` marker is stored, which happens after everything else of that row was
flushed; the marker is added to every table and is never given by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = [
    "COMPLETE",
    "EVALUATION",
    "OWNER_TABLES",
    "RELEASES",
    "SPLIT_CODES",
    "STEPS",
    "TRAINER_TABLES",
    "TRAINING",
    "Column",
    "Table",
]

#: How the column ``split`` of `RELEASES` writes the three splits.
SPLIT_CODES: Mapping[str, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a value (or a small array) per row.

    Parameters
    ----------
    name
        Name of the HDF5 dataset; a Python identifier.
    dtype
        NumPy dtype: a float, an integer, or fixed-length UTF-8 text such as ``"S64"`` (bytes).
    units
        Physical unit, ``"1"`` for pure numbers, ``"text"`` for text.
    long_name
        One line for axis labels and documentation.
    shape
        Shape of one row's value; ``()`` for a scalar.
    """

    name: str
    dtype: str
    units: str
    long_name: str
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"{self.name!r} cannot name a column")
        if not (self.units and self.long_name):
            raise ValueError(f"column {self.name} needs units and a long name")
        kind = np.dtype(self.dtype)
        if kind.kind not in "fiuS" or kind.itemsize == 0:
            raise ValueError(f"column {self.name} cannot have dtype {self.dtype}")

    @property
    def fill(self) -> float | int | bytes:
        """What a place holds that was never written: NaN, -1, 0 (unsigned) or empty text."""
        unset: Mapping[str, float | int | bytes] = {"f": float("nan"), "i": -1, "u": 0, "S": b""}
        return unset[np.dtype(self.dtype).kind]


#: The marker of every table, written last.
COMPLETE = Column("complete", "uint8", "1", "1 once every other column of the row is stored")


@dataclass(frozen=True, slots=True)
class Table:
    """A named set of columns, one of which (``axis``) is the dimension scale of all others."""

    name: str
    axis: str
    long_name: str
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not (self.name.isidentifier() and self.long_name):
            raise ValueError(f"table {self.name!r} needs an identifier as name, and a long name")
        if self.axis not in names:
            raise ValueError(f"table {self.name} has no column {self.axis!r} to be its axis")
        if len(set(names)) < len(names) or COMPLETE.name in names:
            raise ValueError(f"table {self.name}: column names must differ, and none be 'complete'")

    def column(self, name: str) -> Column:
        """Return the column called ``name``; `KeyError` if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def _seconds(name: str, what: str) -> Column:
    return Column(name, "float64", "s", what)


def _bytes(name: str, what: str) -> Column:
    return Column(name, "int64", "byte", what)


_STEP = Column("step", "int64", "1", "Step of the run, counted from 0")
_EPOCH = Column("epoch", "int64", "1", "Epoch, counted from 0")

STEPS = Table(
    "steps",
    "step",
    "Time and traffic of one rank, one row per step",
    (
        _STEP,
        _EPOCH,
        _seconds("compute_s", "Time in forward, backward and optimizer"),
        _seconds("forward_s", "Time in forward passes"),
        _seconds("backward_s", "Time in backward passes"),
        _seconds("optimizer_s", "Time in the optimizer"),
        _seconds("wait_recv_s", "Time waiting for messages to arrive"),
        _seconds("wait_send_s", "Time waiting for sends to finish"),
        _seconds("step_s", "Wall time of the step"),
        _bytes("bytes_sent_forward", "Bytes sent towards the last trainer"),
        _bytes("bytes_sent_backward", "Bytes sent towards the first trainer"),
        _bytes("bytes_received_forward", "Bytes received from the rank before"),
        _bytes("bytes_received_backward", "Bytes received from the rank after"),
        Column("messages_sent", "int64", "1", "Messages sent"),
        Column("rows", "int64", "1", "Samples in the step"),
    ),
)

TRAINING = Table(
    "training",
    "step",
    "Training of one segment, one row per step",
    (
        _STEP,
        Column("loss", "float64", "nat", "Mean loss; NaN for a segment that computes none"),
        Column("learning_rate", "float64", "1", "Learning rate"),
        Column("gradient_norm", "float64", "1", "Euclidean norm of the segment's gradient"),
        Column("sub_label_accuracy", "float64", "1", "Share of sub-labels predicted rightly"),
    ),
)

EVALUATION = Table(
    "evaluation",
    "epoch",
    "The composed model on held-out samples, one row per evaluation",
    (
        _EPOCH,
        _STEP,
        Column("clean_accuracy", "float64", "1", "Accuracy on clean activations, over classes"),
        Column("clean_loss", "float64", "nat", "Mean loss on clean activations"),
        Column("released_accuracy", "float64", "1", "Accuracy on released rows, over classes"),
        Column("released_loss", "float64", "nat", "Mean loss on released rows"),
        Column("samples", "int64", "1", "Held-out samples evaluated"),
    ),
)

RELEASES = Table(
    "releases",
    "step",
    "The privacy ledger's events: one row per tensor that left the owner",
    (
        _STEP,
        Column("split", "int64", "1", "Split: 0 train, 1 validation, 2 test"),
        Column("samples_new", "int64", "1", "Samples released for the first time"),
        Column("samples_total", "int64", "1", "Samples of this split released so far"),
        Column("epsilon", "float64", "1", "Epsilon spent so far, in the job's privacy unit"),
        Column("epsilon_sample", "float64", "1", "Epsilon spent so far, of a whole sample"),
        Column("delta", "float64", "1", "Delta of both epsilons"),
        Column("sigma", "float64", "1", "Standard deviation of the noise per coordinate"),
    ),
)

OWNER_TABLES = (STEPS, EVALUATION, RELEASES)
TRAINER_TABLES = (STEPS, TRAINING)

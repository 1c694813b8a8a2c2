"""`Table` and `Column`: what a run measures, as data with dtypes, units and long names.

Every rank writes some tables, one row per step (or per epoch, or per release). A row counts only
once its ``complete`` marker is stored, which happens after everything else of that row was
flushed; the marker is added to every table and is never given by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = [
    "CHECKPOINTS",
    "COMPLETE",
    "DIGESTED_TABLES",
    "ENVELOPE_BYTES",
    "EVALUATION",
    "HEADS",
    "KNOWN_TABLES",
    "LEDGER",
    "MESSAGES",
    "NOTE_BYTES",
    "OWNER_TABLES",
    "PROVING",
    "RELEASES",
    "SHARD_FORMAT",
    "SHARD_VERSION",
    "SPLIT_CODES",
    "STEPS",
    "TRAINER_TABLES",
    "TRAINING",
    "Column",
    "Table",
]

#: What the root attributes ``format`` and ``format_version`` say of a file of one rank.
SHARD_FORMAT = "clicooper-shard"
SHARD_VERSION = 2

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
        # Types that HDF5 knows itself, so that every reader does.
        if kind.kind not in "fiuS" or kind.itemsize == 0:
            raise ValueError(f"column {self.name} cannot have dtype {self.dtype}")

    @property
    def fill(self) -> float | int | bytes:
        """What a place holds that was never written: NaN, -1, 0 (unsigned) or empty text."""
        # Values that no run measures; unsigned integers have none to spare, so theirs is 0.
        unset: Mapping[str, float | int | bytes] = {"f": float("nan"), "i": -1, "u": 0, "S": b""}
        return unset[np.dtype(self.dtype).kind]


#: The marker of every table, written last.
COMPLETE = Column("complete", "uint8", "1", "1 once every other column of the row is stored")


@dataclass(frozen=True, slots=True)
class Table:
    """A named set of columns, one of which (``axis``) is the dimension scale of all others.

    ``signals`` are the one or two columns that viewers of NeXus files plot over the axis.
    """

    name: str
    axis: str
    long_name: str
    columns: tuple[Column, ...]
    signals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not (self.name.isidentifier() and self.long_name):
            raise ValueError(f"table {self.name!r} needs an identifier as name, and a long name")
        if self.axis not in names:
            raise ValueError(f"table {self.name} has no column {self.axis!r} to be its axis")
        if len(set(names)) < len(names) or COMPLETE.name in names:
            raise ValueError(f"table {self.name}: column names must differ, and none be 'complete'")
        if len(self.signals) > 2 or not set(self.signals) <= set(names):
            raise ValueError(
                f"table {self.name} has no columns {self.signals} to plot, two at most"
            )

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


# In several tables under one name, so that they can be joined.
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
    signals=("step_s", "compute_s"),
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
    signals=("loss", "sub_label_accuracy"),
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
    signals=("clean_accuracy", "released_accuracy"),
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
        Column(
            "epsilon",
            "float64",
            "1",
            "Epsilon spent so far, in the job's privacy unit and relation",
        ),
        Column(
            "epsilon_sample",
            "float64",
            "1",
            "The same of a whole sample; other relations: /privacy",
        ),
        Column("delta", "float64", "1", "Delta of both epsilons"),
        Column("sigma", "float64", "1", "Standard deviation of the noise per coordinate"),
    ),
    signals=("epsilon",),
)

#: Longest signed statement and longest signed checkpoint, as text.
ENVELOPE_BYTES = 32768
NOTE_BYTES = 16384

LEDGER = Table(
    "ledger",
    "entry",
    "Signed statements of owner and trainers, in the order of the ledger",
    (
        Column("entry", "int64", "1", "Place in the ledger, counted from 0"),
        Column("kind", "S16", "text", "Kind of statement"),
        Column("segment", "int64", "1", "Segment (of a hand-off: the sending rank); -1 for none"),
        Column("stage", "int64", "1", "Training stage, counted from 0; -1 for none"),
        Column("envelope", f"S{ENVELOPE_BYTES}", "text", "DSSE envelope as canonical JSON"),
    ),
)

CHECKPOINTS = Table(
    "checkpoints",
    "size",
    "Signed checkpoints of the ledger",
    (
        Column("size", "int64", "1", "Entries of the ledger it speaks of"),
        Column("note", f"S{NOTE_BYTES}", "text", "Signed note"),
    ),
)

HEADS = Table(
    "heads",
    "size",
    "Checkpoints of the ledger as this trainer saw and checked them",
    (
        Column("size", "int64", "1", "Entries of the ledger"),
        Column("root", "S64", "text", "RFC 9162 root of the ledger, hexadecimal"),
        Column("note", "S512", "text", "Note with the owner's signature that says so"),
    ),
)

MESSAGES = Table(
    "messages",
    "message",
    "Digests of all training messages of one trainer, by channel and stage",
    (
        Column("message", "int64", "1", "Row, counted from 0"),
        Column("stage", "int64", "1", "Training stage, counted from 0"),
        Column("channel", "S16", "text", "forward_in, forward_out, backward_in or backward_out"),
        _STEP,
        Column("micro_batch", "int64", "1", "Micro-batch, counted from 0"),
        Column("digest", "S64", "text", "Tagged BLAKE3 of the message, hexadecimal"),
    ),
)

PROVING = Table(
    "proving",
    "stage",
    "What proofs and marks cost one trainer, one row per stage",
    (
        Column("stage", "int64", "1", "Training stage, counted from 0"),
        _seconds("mark_s", "Time drawing carriers and putting the mark into the weights"),
        _seconds("messages_s", "Time digesting messages, or handing them to the helper thread"),
        _seconds("helper_s", "Work of the helper thread on digests, beside the training"),
        _seconds("state_s", "Time digesting and storing the state of the segment"),
        _seconds("exchange_s", "Time of the exchange of proofs that ended the stage before"),
        _seconds("stage_s", "Wall time of the stage, without that exchange"),
    ),
    signals=("stage_s",),
)

#: Tables whose rows are digested into signed statements; rows of the others are signed themselves.
DIGESTED_TABLES = (STEPS, TRAINING, MESSAGES, PROVING, EVALUATION, RELEASES)

OWNER_TABLES = (STEPS, EVALUATION, RELEASES, LEDGER, CHECKPOINTS)
TRAINER_TABLES = (STEPS, TRAINING, MESSAGES, PROVING, HEADS)

#: Tables of this version by name: a file that has one must have its columns.
KNOWN_TABLES: Mapping[str, Table] = {
    table.name: table for table in (*OWNER_TABLES, *TRAINER_TABLES)
}

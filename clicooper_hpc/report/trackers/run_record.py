"""`RunRecord`: what a tracker is told of a run, whatever its format; nothing private, no folders.

All starts of a run write the same tables, in which every step stands once: a run that was stopped
and resumed is one record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.merkle import merkle_leaf_hash
from clicooper_hpc.provenance.tree_checkpoint import SignedCheckpoint
from clicooper_hpc.report.run_reading import RunReading, open_reading
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.runstore.tables.schema import (
    EVALUATION,
    PROVING,
    RELEASES,
    STEPS,
    TRAINING,
    Table,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RecordedResult", "RunRecord", "read_run_record"]

#: Tables of numbers. Ledger, messages and notes are evidence: see `RunRecord.proofs`.
_TABLES: Final = (STEPS, TRAINING, EVALUATION, RELEASES, PROVING)
#: Root attributes that say what made the run. Hosts are not among them.
_ABOUT: Final = (
    "run_id", "status", "created", "restarts", "num_ranks", "creator", "creator_version",
    "git_commit", "job_digest", "mpi_library", "mpi4py_version", "torch_version", "numpy_version",
    "opacus_version", "cryptography_version", "h5py_version", "hdf5_version",
)  # fmt: skip
_TEXTS: Final = ("text", "promised")


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """One result of a run: ``value`` is a number, or text; ``units`` as in `RESULT_FIGURES`."""

    name: str
    value: Attribute
    units: str
    long_name: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, of all its starts together.

    Attributes
    ----------
    name
        Name of the run folder, without what lies above it.
    about
        What made the run, and the last signed root of its ledger, by name.
    params
        Keys of the resolved job, dotted; lists and tables as JSON, absent values "none".
    results, privacy
        What it ended with; entries of the privacy card.
    card
        The privacy card as text: before the end of the run, what was promised. Empty if none.
    tables
        By name, the rows of all ranks below each other, first column ``rank``.
    proofs
        Entries of the ledger: ``entry``, ``kind``, ``segment``, ``stage`` and ``leaf``, the
        RFC 9162 leaf hash of the signed statement, hexadecimal.
    gaps
        What could not be read, each a line.
    """

    name: str
    about: Mapping[str, Attribute]
    params: Mapping[str, Attribute]
    results: Sequence[RecordedResult]
    privacy: Mapping[str, Attribute]
    card: str
    tables: Mapping[str, tuple[Table, pd.DataFrame]]
    proofs: pd.DataFrame
    gaps: list[str]

    @property
    def started(self) -> float:
        """Beginning of the run in seconds since 1970; 0 where what the run says is no time."""
        try:
            return datetime.fromisoformat(str(self.about.get("created"))).timestamp()
        except (ValueError, OverflowError):
            return 0.0

    @property
    def steps(self) -> int:
        """Steps that a rank has trained, at most."""
        if STEPS.name not in self.tables:
            return 0
        _, frame = self.tables[STEPS.name]
        return int(frame["step"].max()) + 1 if len(frame) else 0

    @property
    def ended(self) -> float:
        """End of the last start in seconds since 1970, by what the run says it took."""
        known = {one.name: one.value for one in self.results}
        return self.started + float(known.get("wall_s", 0.0))


def read_run_record(path: Path) -> RunRecord:
    """Read the run in ``path``, finished or not; only what its ``run.h5`` and shards say.

    Raises
    ------
    RunFolderError
        There is no run, or its index is damaged. Ranks that cannot be read are `gaps`.
    """
    reading = open_reading(path)
    run, public = reading.run, reading.public.line
    job = reading.attempt("the job", lambda: run.job) or {}
    about: dict[str, Attribute] = {
        name: _public(run.attrs[name], public) for name in _ABOUT if name in run.attrs
    }
    about |= _ledger_root(reading)
    tables = {}
    for table in _TABLES:
        frame = _joined(reading, table)
        if frame is not None:
            tables[table.name] = (table, frame)
    card = str(run.privacy.get("text", run.privacy.get("promised", "")))
    return RunRecord(
        name=reading.name,
        about=about,
        params={public(key): _public(value, public) for key, value in _flat_job(job)},
        results=[
            RecordedResult(
                public(name),
                _public(value, public),
                public(run.result_units[name]),
                RESULT_FIGURES.get(name, ("", ""))[1],
            )
            for name, value in run.results.items()
        ],
        privacy={
            public(name): _public(value, public)
            for name, value in run.privacy.items()
            if name not in _TEXTS
        },
        card="".join(f"{public(line)}\n" for line in card.splitlines()),
        tables=tables,
        proofs=_proofs(reading),
        gaps=reading.gaps,
    )


def _public(value: Any, public: Any) -> Attribute:
    """Return a number as it is, anything else as one printable line without folders."""
    return value if isinstance(value, (bool, int, float)) else str(public(value))


def _flat_job(table: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _flat_job(value, f"{at}{key}.")
        elif value is None:
            yield f"{at}{key}", "none"
        elif isinstance(value, (list, dict)):
            yield f"{at}{key}", json.dumps(value)
        else:
            yield f"{at}{key}", value


def _joined(reading: RunReading, table: Table) -> pd.DataFrame | None:
    import pandas as pd

    parts = []
    for rank in reading.run.ranks:
        frame = reading.table(table.name, rank)
        if frame is not None:
            part = frame.copy()
            part.insert(0, "rank", rank)
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else None


def _proofs(reading: RunReading) -> pd.DataFrame:
    import pandas as pd

    frame = reading.table("ledger", 0)
    columns = ["entry", "kind", "segment", "stage"]
    if frame is None:
        return pd.DataFrame(columns=[*columns, "leaf"])
    found = frame[columns].copy()
    found["kind"] = [reading.public.line(kind) for kind in frame["kind"]]
    found["leaf"] = [
        merkle_leaf_hash(str(envelope).encode("utf-8")).hex() for envelope in frame["envelope"]
    ]
    return found


def _ledger_root(reading: RunReading) -> dict[str, Attribute]:
    """Return size and root of the ledger as the owner signed them last; signatures: `verify`."""
    frame = reading.table("checkpoints", 0)
    if frame is None or frame.empty:
        return {}
    try:
        last = SignedCheckpoint.parse(str(frame["note"].iloc[-1])).checkpoint
    except EvidenceError as error:
        reading.add_gap(f"the last signed root of the ledger: {error.what}")
        return {}
    return {"ledger_size": last.size, "ledger_root": last.root.hex()}

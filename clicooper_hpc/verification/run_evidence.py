"""Collect the evidence of a run from its folder: everything `clicooper verify` looks at."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.equivocation import EQUIVOCATION_BYTES
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.statements import RunStatement, parse_statement
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.checkpoints import stage_checkpoint_path
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.signed_digests import (
    card_digest,
    owner_tables_digest,
    table_rows_digest,
)
from clicooper_hpc.runstore.tables.schema import DIGESTED_TABLES, Table
from clicooper_hpc.verification.evidence import Evidence, Unreadable

__all__ = ["collect_run_evidence", "evidence_run_statement"]

#: More evidence than a rank can find in one run.
_MOST_FILES = 1024
_Tables = Mapping[Table, Mapping[str, np.ndarray[Any, Any]]]


def collect_run_evidence(
    run: Run,
    *,
    owner_key: PublicIdentity | None = None,
    trainer_keys: Sequence[PublicIdentity] | None = None,
) -> Evidence:
    """Collect the evidence of ``run``. What cannot be read becomes a finding, not an error.

    Raises
    ------
    RunFolderError
        The run was made without provenance, or its owner's file cannot be read at all.
    """
    section = run.job.get("provenance", {})
    if not section.get("enabled", False):
        raise RunFolderError(
            "the run has no proofs: it was made with provenance.enabled = false",
            where=str(run.folder.path),
        )
    tables = {rank: _evidence_rows(run, rank) for rank in run.ranks}
    owner = tables[0]
    if isinstance(owner, Unreadable):
        raise RunFolderError(owner.reason, where=str(run.folder.shard(0)))
    entries = [bytes(entry) for entry in _evidence_column(owner, "ledger", "envelope")]
    statement = evidence_run_statement(entries)
    allowed = section.get("trainers")
    return Evidence(
        entries=entries,
        checkpoints=[
            _evidence_text(note) for note in _evidence_column(owner, "checkpoints", "note")
        ],
        run_id=str(run.attrs["run_id"]),
        job_text=str(run.attrs["resolved_job"]),
        job_digest=str(run.attrs["job_digest"]),
        card_digest=card_digest(str(run.privacy.get("promised", ""))).hex,
        marks={"required": True, "off": False}.get(str(section.get("marks"))),
        segments=None if statement is None else _delivered_roots(run, statement.segments),
        checkpoint_roots={} if statement is None else _checkpoint_roots(run, statement),
        tables={} if statement is None else _row_seals(run, tables, statement.stage_bounds),
        trainer_heads={
            rank: list(
                zip(
                    (int(size) for size in _evidence_column(found, "heads", "size")),
                    (_evidence_text(root) for root in _evidence_column(found, "heads", "root")),
                    strict=True,
                )
            )
            for rank, found in tables.items()
            if rank and not isinstance(found, Unreadable)
        },
        trainer_notes={
            rank: [_evidence_text(note) for note in _evidence_column(found, "heads", "note")]
            for rank, found in tables.items()
            if rank and not isinstance(found, Unreadable)
        },
        equivocations=_equivocation_files(run.folder.equivocation),
        owner_key=owner_key,
        trainer_keys=trainer_keys,
        allowed_keys=None
        if allowed is None
        else [PublicIdentity.from_raw(bytes.fromhex(key)) for key in allowed],
    )


def evidence_run_statement(entries: Sequence[bytes]) -> RunStatement | None:
    """Return the first entry's statement, unchecked, or None if it is none."""
    try:
        statement = parse_statement(parse_envelope(entries[0]).payload)
    # The first checks say what is wrong with it.
    except (IndexError, EvidenceError):
        return None
    return statement if isinstance(statement, RunStatement) else None


def _evidence_rows(run: Run, rank: int) -> _Tables | Unreadable:
    try:
        return run.stored_rows(rank)
    except RunFolderError as error:
        return Unreadable(error.what)


def _evidence_column(tables: _Tables, table: str, column: str) -> list[Any]:
    for found, rows in tables.items():
        if found.name == table:
            # A file of another version, or a changed one, may lack it: checks say what is missing.
            return list(rows.get(column, ()))
    return []


def _delivered_roots(run: Run, segments: int) -> list[str | Unreadable]:
    folder = run.folder.delivery
    return [
        _file_root(folder / f"segment-{segment:03d}.safetensors", "")
        for segment in range(1, segments + 1)
    ]


def _checkpoint_roots(
    run: Run, statement: RunStatement
) -> dict[tuple[int, int], tuple[str, str] | Unreadable]:
    found: dict[tuple[int, int], tuple[str, str] | Unreadable] = {}
    for stage in range(statement.stages):
        for segment in range(1, statement.segments + 1):
            path = stage_checkpoint_path(run.folder.path, stage, segment)
            # States that were not kept are no fault; check 14 counts those that were.
            if path.exists():
                roots = [_file_root(path, prefix) for prefix in ("weights/", "training/")]
                bad = [root for root in roots if isinstance(root, Unreadable)]
                found[stage, segment] = bad[0] if bad else (str(roots[0]), str(roots[1]))
    return found


def _file_root(path: Path, prefix: str) -> str | Unreadable:
    try:
        # What is damaged is a finding of its check and must not end the verification.
        return digest_tensors(path.read_bytes(), prefix=prefix).hex
    except OSError as error:
        return Unreadable(f"the file cannot be read ({error.strerror})")
    except EvidenceError as error:
        return Unreadable(error.what)


def _row_seals(
    run: Run, tables: Mapping[int, _Tables | Unreadable], bounds: Sequence[int]
) -> dict[tuple[int, int], str | Unreadable]:
    """Digest every rank's rows as the ranks did: trainers by stage, the owner all at once."""
    found: dict[tuple[int, int], str | Unreadable] = {}
    stages = len(bounds) - 1
    sizes = LedgerOrder(len(run.ranks) - 1, stages).checkpoint_sizes()
    changed = run.changed_ranks
    for rank, content in tables.items():
        for stage in range(stages) if rank else [stages]:
            if isinstance(content, Unreadable):
                found[rank, stage] = content
            elif rank in changed:
                found[rank, stage] = Unreadable("the file is not the one the finished run left")
            # Checkpoints and heads are not sealed: their sizes at least must be the due ones.
            elif not _sizes_fit(content, sizes, complete=run.status == "complete"):
                found[rank, stage] = Unreadable("its checkpoints are not those of the stages")
            elif rank:
                found[rank, stage] = _sealed_rows_digest(_stage_rows(content, stage, bounds)).hex
            # Nor are these columns; whoever reads the table should be able to rely on them.
            elif not _describes_its_entries(content, run, stages):
                found[rank, stage] = Unreadable("the ledger's columns do not fit its entries")
            else:
                index = run.index_content().digest()
                found[rank, stage] = owner_tables_digest(_sealed_rows_digest(content), index).hex
    return found


def _sizes_fit(content: _Tables, sizes: Sequence[int], *, complete: bool) -> bool:
    """Tell whether the owner's checkpoints, or a trainer's copies, have the sizes they must."""
    found = [
        int(size)
        for name in ("checkpoints", "heads")
        for size in _evidence_column(content, name, "size")
    ]
    return found == list(sizes if complete else sizes[: len(found)])


def _describes_its_entries(content: _Tables, run: Run, stages: int) -> bool:
    """Tell whether kind, segment and stage beside each envelope are those of the order."""
    order = LedgerOrder(len(run.ranks) - 1, stages)
    columns = (
        _evidence_column(content, "ledger", name) for name in ("entry", "kind", "segment", "stage")
    )
    for index, (entry, kind, segment, stage) in enumerate(zip(*columns, strict=True)):
        if index >= order.size:
            return False
        entry_id = order.entry_at(index)
        of_stage = entry_id.kind in ("ticket", "handoff", "stage")
        no_segment = entry_id.kind in ("run", "delivery")
        wanted = (
            index,
            entry_id.kind.encode(),
            -1 if no_segment else entry_id.segment,
            entry_id.stage if of_stage else -1,
        )
        if (int(entry), bytes(kind), int(segment), int(stage)) != wanted:
            return False
    return True


def _sealed_rows_digest(content: _Tables) -> Digest:
    names = {table.name: table for table in DIGESTED_TABLES}
    # The tables as this version knows them: a column added to a file must not go unnoticed.
    return table_rows_digest(
        {table: rows for table, rows in content.items() if table.name in names}
    )


def _stage_rows(
    content: _Tables, stage: int, bounds: Sequence[int]
) -> dict[Table, dict[str, np.ndarray[Any, Any]]]:
    chosen: dict[Table, dict[str, np.ndarray[Any, Any]]] = {}
    for table, rows in content.items():
        if "stage" in rows:
            # A row of no stage must not go unnoticed either.
            inside = np.clip(rows["stage"], 0, len(bounds) - 2) == stage
        elif "step" in rows:
            # A row outside all steps goes to the first or last stage, or it would be in no digest.
            last = bounds[stage + 1] if stage + 2 < len(bounds) else np.iinfo(np.int64).max
            first = bounds[stage] if stage else np.iinfo(np.int64).min
            inside = (rows["step"] >= first) & (rows["step"] < last)
        else:
            continue
        chosen[table] = {name: values[inside] for name, values in rows.items()}
    return chosen


def _equivocation_files(folder: Path) -> dict[str, bytes]:
    """Return what ranks kept as evidence; anybody may have put files there, of any kind."""
    if not folder.is_dir() or folder.is_symlink():
        return {}
    found: dict[str, bytes] = {}
    for path in sorted(islice(folder.iterdir(), _MOST_FILES)):
        state = path.lstat()
        # Neither a link nor a pipe, nor more than such a file can have.
        if stat.S_ISREG(state.st_mode) and state.st_size <= EQUIVOCATION_BYTES:
            found[path.name] = path.read_bytes()
        else:
            found[path.name] = b""
    return found


def _evidence_text(value: bytes) -> str:
    return bytes(value).decode("utf-8", "replace")

"""Collect the evidence of a run from its folder: everything `clicooper verify` looks at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from heapq import nsmallest
from pathlib import Path
from typing import Any, Final

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.equivocation import EQUIVOCATION_BYTES
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.proof_rules import MARKS_DEMANDED
from clicooper_hpc.provenance.safetensors_layout import (
    read_safetensors_layout,
    read_safetensors_texts,
)
from clicooper_hpc.provenance.statements import RunStatement, parse_statement
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.checkpoints import stage_checkpoint_path
from clicooper_hpc.runstore.expected_files import index_differences, shard_differences
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.regular_files import read_regular_file
from clicooper_hpc.runstore.run_folder import IDENTITY_FILE, MARK_KEY_FILE
from clicooper_hpc.runstore.signed_digests import card_digest
from clicooper_hpc.runstore.tables.schema import CHECKPOINTS, HEADS, LEDGER, MESSAGES, PROVING
from clicooper_hpc.verification.evidence import Evidence, Unreadable
from clicooper_hpc.verification.table_evidence import (
    StoredTables,
    message_roots,
    read_tables,
    row_digests,
    table_column,
)

__all__ = ["collect_run_evidence", "evidence_run_statement"]

#: Tables that a run without proofs leaves empty.
_PROOF_TABLES: Final = (LEDGER, CHECKPOINTS, HEADS, MESSAGES, PROVING)
#: Files that it does not have.
_PROOF_FILES: Final = (
    "checkpoints/stage-*",
    f"private/rank-*/{IDENTITY_FILE}",
    f"private/rank-*/{MARK_KEY_FILE}",
)
#: Tensors of a checkpoint file; nothing else may be in it.
_PREFIXES: Final = ("weights/", "training/")
#: More evidence than a rank can find in one run.
_MOST_FILES = 1024


def collect_run_evidence(
    run: Run,
    *,
    owner_key: PublicIdentity | None = None,
    trainer_keys: Sequence[PublicIdentity] | None = None,
    finished: bool | None = None,
) -> Evidence:
    """Collect the evidence of ``run``. What cannot be read becomes a finding, not an error.

    Parameters
    ----------
    finished
        Whether the run has come to its end; None takes its own word for it. Its owner asks before
        it writes that word.

    Raises
    ------
    RunFolderError
        The run was made without provenance.
    EvidenceError
        The same, but keys are given: somebody insists on proofs.
    """
    ended = run.status == "complete" if finished is None else finished
    section = _provenance_section(run)
    tables = {rank: read_tables(run, rank) for rank in run.ranks}
    denied = None
    if section.get("enabled") is not True:
        # The job is a text that anybody can edit: its word is taken where nothing speaks against.
        denied = _proof_traces(run, tables)
        if denied is None:
            raise _no_proofs(run, insists=owner_key is not None or trainer_keys is not None)
    owner = tables.get(0, Unreadable("the run has no owner"))
    shown: StoredTables = {} if isinstance(owner, Unreadable) else owner
    entries = [bytes(entry) for entry in table_column(shown, LEDGER.name, "envelope")]
    notes = [_evidence_text(note) for note in table_column(shown, CHECKPOINTS.name, "note")]
    statement = evidence_run_statement(entries)
    stages = 0 if statement is None else statement.stages
    trainers = {
        rank: found for rank, found in tables.items() if rank and not isinstance(found, Unreadable)
    }
    return Evidence(
        entries=entries,
        checkpoints=notes,
        status="complete" if ended else run.status,
        run_id=str(run.attrs["run_id"]),
        job_text=str(run.attrs["resolved_job"]),
        job_digest=str(run.attrs["job_digest"]),
        card_digest=card_digest(str(run.privacy.get("promised", ""))).hex,
        marks=MARKS_DEMANDED.get(str(section.get("marks"))),
        missing_ledger=owner.reason if isinstance(owner, Unreadable) else None,
        denied_proofs=denied,
        segments=None if statement is None else _delivered_roots(run, statement.segments),
        checkpoint_roots={} if statement is None else _checkpoint_roots(run, statement),
        tables={}
        if statement is None
        else row_digests(run, tables, statement.stage_bounds, finished=ended),
        trainer_heads={rank: _heads(found) for rank, found in trainers.items()},
        messages={
            rank: found if isinstance(found, Unreadable) else message_roots(found, stages)
            for rank, found in tables.items()
            if rank
        },
        outlines=_outlines(run, finished=ended),
        trainer_notes={rank: _head_notes(found) for rank, found in trainers.items()},
        equivocations=_equivocation_files(run),
        owner_key=owner_key,
        trainer_keys=trainer_keys,
        allowed_keys=_allowed_keys(section),
    )


def evidence_run_statement(entries: Sequence[bytes]) -> RunStatement | None:
    """Return the first entry's statement, unchecked, or None if it is none."""
    try:
        statement = parse_statement(parse_envelope(entries[0]).payload)
    # The first checks say what is wrong with it.
    except (IndexError, EvidenceError):
        return None
    return statement if isinstance(statement, RunStatement) else None


def _provenance_section(run: Run) -> Mapping[str, Any]:
    """Return what the stored job says of proofs; nothing if it is no job."""
    try:
        return run.job_section("provenance")
    # No job: check 2 finds that nobody signed it.
    except RunFolderError:
        return {}


def _proof_traces(run: Run, tables: Mapping[int, StoredTables | Unreadable]) -> str | None:
    """Return what there is of proofs in a run whose job says that it has none."""
    traces = []
    for rank, found in tables.items():
        for table in _PROOF_TABLES:
            rows = (
                0
                if isinstance(found, Unreadable)
                else len(table_column(found, table.name, table.axis))
            )
            if rows:
                traces.append(f"{rows} rows of table {table.name} of rank {rank}")
    folder = run.folder
    for kept in _PROOF_FILES:
        traces += [str(path.relative_to(folder.path)) for path in sorted(folder.path.glob(kept))]
    return ", ".join(traces) or None


def _no_proofs(run: Run, *, insists: bool) -> RunFolderError | EvidenceError:
    what, where = "was made with provenance.enabled = false", str(run.folder.path)
    if insists:
        return EvidenceError(
            f"the run has no proofs to hold against the keys given: it {what}", where=where
        )
    return RunFolderError(
        f"the run has no proofs: it {what}",
        where=where,
        remedy="Whoever can write the folder can make it say so. Give --owner-key if it must "
        "have them.",
    )


def _heads(tables: StoredTables) -> list[tuple[int, str]]:
    sizes, roots = (table_column(tables, HEADS.name, name) for name in ("size", "root"))
    return [(int(size), _evidence_text(root)) for size, root in zip(sizes, roots, strict=False)]


def _outlines(run: Run, *, finished: bool) -> dict[str, list[str]]:
    """Return how every HDF5 file of the run departs from what it must look like."""
    found: dict[str, list[str]] = {}
    compared = [(run.folder.index, partial(index_differences, run, finished=finished))]
    for rank in run.ranks if run.attrs.get("layout") != "single" else ():
        path = run.folder.shard(rank)
        # A missing one fails the checks of what was in it; what is no file is named here.
        if os.path.lexists(path):
            compared.append((path, partial(shard_differences, run, rank, finished=finished)))
    for path, compare in compared:
        # Each by itself: a file that cannot be read says nothing about the others.
        try:
            found[path.name] = compare()
        except RunFolderError as error:
            # Behind the file there may be the place in it.
            place = (error.where or "").removeprefix(str(path)).removeprefix(", ")
            found[path.name] = [f"{place}: {error.what}" if place else error.what]
    return found


def _allowed_keys(section: Mapping[str, Any]) -> list[PublicIdentity] | None:
    named = section.get("trainers")
    if named is None:
        return None
    allowed = []
    for key in named if isinstance(named, list) else ():
        try:
            allowed.append(PublicIdentity.from_raw(bytes.fromhex(str(key))))
        # What is no key admits nobody.
        except (ValueError, EvidenceError):
            continue
    return allowed


def _delivered_roots(run: Run, segments: int) -> list[str | Unreadable]:
    folder = run.folder.delivery
    found: list[str | Unreadable] = []
    for segment in range(1, segments + 1):
        path = folder / f"segment-{segment:03d}.safetensors"
        roots = _file_roots(run, path, ("",), texts={"segment": str(segment)})
        found.append(roots if isinstance(roots, Unreadable) else roots[0])
    return found


def _checkpoint_roots(
    run: Run, statement: RunStatement
) -> dict[tuple[int, int], tuple[str, str] | Unreadable]:
    found: dict[tuple[int, int], tuple[str, str] | Unreadable] = {}
    for stage in range(statement.stages):
        for segment in range(1, statement.segments + 1):
            path = stage_checkpoint_path(run.folder.path, stage, segment)
            # States that were not kept are no fault; check 14 counts those that were.
            if os.path.lexists(path):
                roots = _file_roots(run, path, _PREFIXES, texts={})
                found[stage, segment] = (
                    roots if isinstance(roots, Unreadable) else (roots[0], roots[1])
                )
    return found


def _file_roots(
    run: Run, path: Path, prefixes: Sequence[str], *, texts: Mapping[str, str]
) -> list[str] | Unreadable:
    """Return the tensor root under every prefix, of a file that has these texts and no others."""
    try:
        content = read_regular_file(path, within=run.folder.path)
        found = read_safetensors_texts(content, where=path.name)
        if found != texts:
            name = sorted(found.items() ^ texts.items())[0][0]
            return Unreadable(f"its text {name!r} is not one that the run writes")
        # A tensor under no prefix would be in no root.
        for name in read_safetensors_layout(content, where=path.name):
            if not name.startswith(tuple(prefixes)):
                return Unreadable(f"the tensor {name!r} is covered by no proof")
        return [digest_tensors(content, prefix=prefix).hex for prefix in prefixes]
    # What is damaged is a finding of its check and must not end the verification.
    except OSError as error:
        return Unreadable(f"the file cannot be read ({error.strerror})")
    except (EvidenceError, RunFolderError) as error:
        return Unreadable(error.what)


def _head_notes(tables: StoredTables) -> list[str]:
    return [_evidence_text(note) for note in table_column(tables, HEADS.name, "note")]


def _equivocation_files(run: Run) -> dict[str, bytes]:
    """Return what ranks kept as evidence; anybody may have put files there, of any kind."""
    folder = run.folder.equivocation
    if not folder.is_dir() or folder.is_symlink():
        return {}
    found: dict[str, bytes] = {}
    for path in nsmallest(_MOST_FILES, folder.iterdir()):
        try:
            found[path.name] = read_regular_file(
                path, within=run.folder.path, most=EQUIVOCATION_BYTES
            )
        # Neither a link nor a pipe, nor more than such a file can have: no evidence.
        except (OSError, RunFolderError):
            found[path.name] = b""
    return found


def _evidence_text(value: bytes) -> str:
    return bytes(value).decode("utf-8", "replace")

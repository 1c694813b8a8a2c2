"""What the checks compare, as plain values: texts, digests, roots. Nothing of the package."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from independent_folder import (
    Rows,
    RunFolder,
    Tables,
    index_digest,
    read_run_folder,
    readable,
    rows_digest,
)
from independent_formats import MismatchError, read_envelope, tagged, tensors_digest, tree_root
from independent_layout import layout_problems
from independent_statements import statement_kind

OWNER_SEALED = ("evaluation", "releases", "steps")
TRAINER_SEALED = ("messages", "proving", "steps", "training")


@dataclass
class Facts:
    """A run as its folder tells it. Digests are hex; for what cannot be read, the reason."""

    envelopes: Sequence[bytes]
    notes: Sequence[str]
    run_id: str
    job_text: str
    job_digest: str
    card_digest: str
    #: Why there is no ledger; what there is of proofs although the job says that there are none.
    missing_ledger: str | None = None
    denied_proofs: str | None = None
    status: str = "complete"
    #: `provenance.marks` of the job.
    marks: str = "auto"
    #: Digest of every delivered file, in the order of the segments; None without delivered files.
    delivered: Sequence[str | MismatchError] | None = None
    #: (stage, segment) to the digests of weights and of what only training needs.
    kept: Mapping[tuple[int, int], tuple[str, str] | MismatchError] = field(default_factory=dict)
    #: (rank, stage) to the digest of rows; (0, number of stages) for the owner's.
    tables: Mapping[tuple[int, int], str | MismatchError] = field(default_factory=dict)
    #: Segment to (size, root, note) of every head its trainer stored.
    heads: Mapping[int, Sequence[tuple[int, str, str]]] = field(default_factory=dict)
    #: Name to content of every file in the folder of evidence of two ledgers.
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    #: Rank to (stage, channel) to number and root of the message digests a trainer stored.
    messages: Mapping[int, Mapping[tuple[int, str], tuple[int, str]] | MismatchError] = field(
        default_factory=dict
    )
    #: What departs from docs/hdf5.md in the HDF5 files; None without files.
    layout: Sequence[str] | None = None
    # Keys (hex) that the job names, and those the user insists on.
    job_trainers: Collection[str] | None = None
    owner_key: str | None = None
    trainer_keys: Sequence[str] | None = None


def facts_of(
    folder: Path, owner_key: str | None = None, trainer_keys: Sequence[str] | None = None
) -> Facts:
    """Read a run folder; `MismatchError` only where there is no ledger to look at."""
    run = read_run_folder(folder)
    job = json.loads(run.attributes["resolved_job"]).get("provenance", {})
    if job.get("enabled") is not True and denied_proofs(run) is None:
        raise MismatchError("the job is not proved")
    bounds = _stage_bounds(run.envelopes)
    return Facts(
        envelopes=run.envelopes,
        notes=run.notes,
        run_id=run.attributes["run_id"],
        job_text=run.attributes["resolved_job"],
        job_digest=run.attributes["job_digest"],
        card_digest=tagged("card", run.index["promised"].encode()),
        marks=str(job.get("marks")),
        missing_ledger=run.missing_ledger,
        denied_proofs=None if job.get("enabled") is True else denied_proofs(run),
        status=run.attributes["status"],
        delivered=[
            _digests(one, ("",), {"segment": str(segment)}, 0)
            for segment, one in sorted(run.delivered.items())
        ],
        kept={at: _digests(one, ("weights/", "training/"), {}) for at, one in run.kept.items()},
        messages={rank: message_roots(tables) for rank, tables in run.tables.items() if rank},
        layout=layout_problems(folder, run, finished=run.attributes["status"] == "complete"),
        tables={} if bounds is None else _table_digests(run, bounds),
        heads={rank: _heads(tables) for rank, tables in run.tables.items() if rank},
        job_trainers=job.get("trainers"),
        evidence=run.evidence,
        owner_key=owner_key,
        trainer_keys=trainer_keys,
    )


def _heads(tables: Tables | MismatchError) -> list[tuple[int, str, str]]:
    try:
        heads = readable(tables, "heads")
    except MismatchError:
        return []
    roots, notes = (
        [bytes(text).decode(errors="replace") for text in heads[name]] for name in ("root", "note")
    )
    return list(zip(heads["size"].tolist(), roots, notes, strict=True))


def _digests(
    found: Any, prefixes: Sequence[str], texts: Mapping[str, str], only: int | None = None
) -> Any:
    """Digests under the prefixes, of a file that holds nothing else and these texts."""
    if isinstance(found, MismatchError):
        return found
    tensors, its_texts = found
    if its_texts != texts:
        return MismatchError(f"other texts: {its_texts}")
    if not all(name.startswith(tuple(prefixes)) for name in tensors):
        return MismatchError("a tensor that is no part of a state")
    digests = tuple(tensors_digest(tensors, prefix) for prefix in prefixes)
    return digests if only is None else digests[only]


def message_roots(
    tables: Tables | MismatchError,
) -> dict[tuple[int, str], tuple[int, str]] | MismatchError:
    """(stage, channel) to number and root of the message digests a trainer stored."""
    try:
        rows = readable(tables, "messages")
        found: dict[tuple[int, str], list[bytes]] = {}
        for stage, channel, digest in zip(
            rows["stage"].tolist(), rows["channel"], rows["digest"], strict=True
        ):
            place = (stage, bytes(channel).decode())
            found.setdefault(place, []).append(bytes.fromhex(bytes(digest).decode()))
    except MismatchError as error:
        return error
    except ValueError as error:
        return MismatchError(f"no digest: {error}")
    return {place: (len(all_), tree_root(all_).hex()) for place, all_ in found.items()}


def denied_proofs(run: RunFolder) -> str | None:
    """What there is of proofs in a run whose job says that there are none."""
    tables = ("ledger", "checkpoints", "heads", "messages", "proving")
    rows = [
        f"{name} of rank {rank}"
        for rank, found in run.tables.items()
        for name in tables
        if _rows(found, name)
    ]
    return ", ".join([*rows, *run.proof_files]) or None


def _rows(tables: Tables | MismatchError, name: str) -> bool:
    try:
        return any(len(values) for values in readable(tables, name).values())
    # A table that this rank does not write, or that cannot be read.
    except (MismatchError, KeyError):
        return False


def _stage_bounds(envelopes: Sequence[bytes]) -> list[int] | None:
    """Stage bounds of the run statement, or None if there is none (check 1 or 2 says why)."""
    try:
        statement = read_envelope(envelopes[0]).statement
        found: list[int] = statement["predicate"]["stage_bounds"]
        return found if statement_kind(statement) == "run" else None
    except (MismatchError, LookupError):
        return None


def _table_digests(
    run: RunFolder, bounds: Sequence[int]
) -> dict[tuple[int, int], str | MismatchError]:
    found: dict[tuple[int, int], str | MismatchError] = {}
    stages = len(bounds) - 1
    for rank, tables in run.tables.items():
        for stage in range(stages) if rank else [stages]:
            try:
                found[rank, stage] = _block_digest(run, rank, tables, stage, bounds)
            except MismatchError as refused:
                found[rank, stage] = refused
    return found


def _block_digest(
    run: RunFolder,
    rank: int,
    tables: Tables | MismatchError,
    stage: int,
    bounds: Sequence[int],
) -> str:
    """Digest of one block of rows, after all that the page says of the file around it."""
    if isinstance(tables, MismatchError):
        raise tables
    if run.shard_digests and run.file_digests[rank] != run.shard_digests[rank]:
        raise MismatchError("the file is not the one the finished run left")
    segments = len(run.tables) - 1
    sizes = [1 + segments + 3 * segments * s for s in range(len(bounds))]
    sizes.append(sizes[-1] + 1)
    stored = readable(tables, "heads" if rank else "checkpoints")["size"].tolist()
    wanted = sizes if run.attributes["status"] == "complete" else sizes[: len(stored)]
    if stored != wanted:
        raise MismatchError(f"heads or checkpoints of sizes {stored}")
    found = {name: readable(tables, name) for name in (TRAINER_SEALED if rank else OWNER_SEALED)}
    if rank:
        return rows_digest({name: _of_stage(rows, stage, bounds) for name, rows in found.items()})
    _look_at_columns(readable(tables, "ledger"), segments, sizes[-1])
    rows, index = rows_digest(found), index_digest(run.index)
    return tagged("owner-tables", bytes.fromhex(rows) + bytes.fromhex(index))


def _of_stage(rows: Rows, stage: int, bounds: Sequence[int]) -> Rows:
    """Rows of a stage: by column `stage` if any, else by `step`; strays to the nearest end."""
    if "stage" in rows:
        of = np.clip(rows["stage"], 0, len(bounds) - 2)
    else:
        of = np.searchsorted(np.asarray(bounds[1:-1]), rows["step"], side="right")
    return {column: values[of == stage] for column, values in rows.items()}


def _look_at_columns(ledger: Rows, segments: int, size: int) -> None:
    """Refuse a table `ledger` whose columns tell another place than the fixed order."""
    for place, row in enumerate(
        zip(*(ledger[c] for c in ("entry", "kind", "segment", "stage")), strict=True)
    ):
        kind, stage, which = planned_entry(place, segments, size)
        if (int(row[0]), bytes(row[1]).decode(), int(row[2]), int(row[3])) != (
            place,
            kind,
            which,
            stage,
        ):
            raise MismatchError(f"the columns of entry {place} do not fit it")


def planned_entry(place: int, segments: int, size: int) -> tuple[str, int, int]:
    """Kind, stage and segment or boundary (-1: none) at a place of a ledger of `size` entries."""
    if place == 0:
        return "run", -1, -1
    if place <= segments:
        return "enrolment", -1, place
    if place >= size - 1:
        return "delivery", -1, -1
    stage, rest = divmod(place - 1 - segments, 3 * segments)
    kind = ("ticket", "handoff", "stage")[rest // segments]
    return kind, stage, rest % segments + (0 if kind == "handoff" else 1)

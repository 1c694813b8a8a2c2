"""Where a later life of a run begins: the newest checkpoint whole on all ranks, and the ledger."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clicooper_hpc.errors import (
    ClicooperError,
    EvidenceError,
    ExitCode,
    PeerError,
    RunFolderError,
)
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.kept_rows import owner_rows, trainer_rows
from clicooper_hpc.runstore.checkpoints import (
    RunCheckpoint,
    find_checkpoints,
    rank_checkpoint_name,
    read_checkpoint_file,
    segment_checkpoint_name,
)
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.safetensors_files import read_safetensors_metadata, unpack_safetensors
from clicooper_hpc.runstore.tables.schema import (
    CHECKPOINTS,
    HEADS,
    LEDGER,
    MESSAGES,
    PROVING,
    STEPS,
    Table,
)
from clicooper_hpc.runstore.tables.writer import EarlierRows
from clicooper_hpc.trainer.loop import EarlierLife
from clicooper_hpc.training.run_plan import Course
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.world import World

__all__ = ["Resumption", "agree_on_resumption"]

_log = logging.getLogger(__name__)

Tables = dict[Table, dict[str, np.ndarray[Any, Any]]]


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where one rank goes on.

    Attributes
    ----------
    step
        Steps done in the checkpoint, 0 if there is none.
    rows
        What stays of this rank's tables.
    memory
        What the checkpoint holds of a stage; None at step 0 or without provenance.
    entries, noted
        Owner only: the standing entries, and the signed checkpoints stored with them.
    proved
        First step that is not proved yet.
    is_closed
        Owner only: whether the results are signed.
    life
        Trainers only.
    """

    step: int
    rows: EarlierRows
    memory: StageProgress | None
    entries: tuple[bytes, ...] = ()
    noted: int = 0
    proved: int = 0
    is_closed: bool = False
    life: EarlierLife | None = None


def agree_on_resumption(
    world: World, run: Run, course: Course, *, proofs: bool, deadline_s: float
) -> Resumption:
    """Find out, with all ranks, where the run goes on; collective.

    Parameters
    ----------
    run
        As its earlier life left it.
    proofs
        Whether the run has provenance.

    Raises
    ------
    AgreedFailure
        The tables of a rank cannot be read, or what it saved does not fit.
    """
    tables = agree(world, lambda: _tables(run, world.rank), deadline_s=deadline_s)
    steps = len(_column(tables, STEPS.name, "step"))
    found = _agree_on_checkpoint(world, run, steps, deadline_s=deadline_s)
    order = LedgerOrder(course.segments, len(course.agenda.bounds) - 1) if proofs else None
    entries = agree(world, lambda: _standing(tables, order), deadline_s=deadline_s)
    told = world.broadcast_bytes(
        None if world.rank else str(len(entries)).encode(), limit_bytes=32, deadline_s=deadline_s
    )
    shard = run.folder.shard(world.rank)
    begin = partial(_begin, world.rank, shard, tables, found, course, order, entries, told)
    return agree(world, begin, deadline_s=deadline_s)


def _begin(
    rank: int,
    path: Path,
    tables: Tables,
    found: RunCheckpoint | None,
    course: Course,
    order: LedgerOrder | None,
    entries: tuple[bytes, ...],
    told: bytes,
) -> Resumption:
    """Put together what this rank goes on with, alone."""
    if not told.isdigit():
        raise PeerError("the size of the ledger is no number", where="message from rank 0")
    standing, step = int(told), 0 if found is None else found.step
    memory = None if found is None or order is None else _memory(found, rank_checkpoint_name(rank))
    proved = 0 if order is None else order.proved_stages(standing)
    bounds = course.agenda.bounds
    if rank == 0:
        rows = owner_rows(tables, step=step, agenda=course.agenda, order=order, ledger=standing)
        return Resumption(
            step,
            rows,
            memory,
            entries,
            noted=rows.count(CHECKPOINTS.name),
            proved=bounds[proved],
            is_closed=order is not None and standing == order.size,
        )
    if order is not None:
        _check_ledger(tables, standing, rank=rank, saved=found is not None)
    rows = trainer_rows(tables, step=step, bounds=bounds, proved=proved, ledger=standing)
    if rows.count(STEPS.name) != max(step, bounds[proved]) or rows.count(PROVING.name) != proved:
        raise RunFolderError(
            f"rows are missing that rank {rank} has signed",
            where=str(path),
            remedy="Bring back the file the run wrote.",
        )
    state = None
    if found is not None:
        name = segment_checkpoint_name(rank)
        state = unpack_safetensors(
            read_checkpoint_file(found, name), where=str(found.folder / name)
        )
    heads: Mapping[str, Any] = rows.kept.get(HEADS.name, {"size": (), "root": ()})
    life = EarlierLife(
        step=step,
        state=state,
        memory=memory,
        has_ledger=standing > 0,
        heads=[
            (int(size), bytes(root).decode("ascii"))
            for size, root in zip(heads["size"], heads["root"], strict=True)
        ],
        messages=rows.count(MESSAGES.name),
        recorded=bounds[proved],
    )
    return Resumption(step, rows, memory, life=life)


def _check_ledger(tables: Tables, standing: int, *, rank: int, saved: bool) -> None:
    """Refuse an owner whose ledger is shorter than what this rank was shown.

    The owner stores entries before it tells of them, so that cannot come of a kill.
    """
    heads = _column(tables, HEADS.name, "size")
    seen = max((int(size) for size in heads), default=0)
    if seen > standing or (saved and not standing):
        raise EvidenceError(
            f"the owner's ledger has {standing} entries, and rank {rank} has seen {seen}",
            where="ledger of the earlier life",
            remedy="The owner's files are older than the run: bring back the newest ones.",
        )


def _column(tables: Tables, table: str, column: str) -> np.ndarray[Any, Any]:
    for found, rows in tables.items():
        if found.name == table:
            return rows[column]
    return np.empty(0, np.int64)


def _tables(run: Run, rank: int) -> Tables:
    """Return what ``rank`` wrote; nothing if it was stopped before its file was made."""
    if rank in run.missing_ranks:
        return {}
    return run.stored_rows(rank)


def _standing(tables: Tables, order: LedgerOrder | None) -> tuple[bytes, ...]:
    """Return the entries that the owner's ledger goes on behind; on trainers nothing."""
    for table, rows in tables.items():
        if table.name == LEDGER.name and order is not None:
            if rows["entry"].tolist() != list(range(len(rows["entry"]))):
                raise RunFolderError(
                    "the entries of the ledger are not in order",
                    where="rank-000.h5",
                    remedy="Bring back the file the run wrote.",
                )
            entries = tuple(bytes(entry) for entry in rows["envelope"])
            return entries[: order.recoverable_size(len(entries))]
    return ()


def _agree_on_checkpoint(
    world: World, run: Run, steps: int, *, deadline_s: float
) -> RunCheckpoint | None:
    """Return the newest checkpoint that is whole on every rank, and that its rows reach."""
    mine = {one.step: one for one in find_checkpoints(run.folder.path)}
    mine = {step: one for step, one in mine.items() if one.run_id == run.attrs["run_id"]}
    told = world.broadcast_bytes(
        None if world.rank else json.dumps(sorted(mine, reverse=True)).encode(),
        limit_bytes=2**16,
        deadline_s=deadline_s,
    )
    names = [rank_checkpoint_name(0)]
    if world.rank:
        names = [segment_checkpoint_name(world.rank)]
        if run.job["provenance"]["enabled"]:
            names.append(rank_checkpoint_name(world.rank))
    for step in json.loads(told):
        code, message = 0, ""
        try:
            _read_all(mine, int(step), names)
            if steps < int(step):
                raise RunFolderError(
                    f"rank {world.rank} has the rows of {steps} steps only",
                    where=str(run.folder.shard(world.rank)),
                )
        except ClicooperError as error:
            code, message = int(error.exit_code), error.line()
        verdict = world.allreduce_failure(code, message, deadline_s=deadline_s)
        if verdict.code == ExitCode.DONE:
            return mine[int(step)]
        if world.rank == 0:
            _log.warning(
                "the checkpoint after %d steps cannot be used, so an older one is: %s",
                step,
                verdict.message,
            )
    return None


def _read_all(found: Mapping[int, RunCheckpoint], step: int, names: list[str]) -> None:
    if step not in found:
        raise RunFolderError(f"this rank does not see the checkpoint after {step} steps")
    for name in names:
        read_checkpoint_file(found[step], name)


def _memory(found: RunCheckpoint, name: str) -> StageProgress:
    path = found.folder / name
    tensors = unpack_safetensors(read_checkpoint_file(found, name), where=str(path))
    return StageProgress.unpack(tensors, read_safetensors_metadata(path), where=str(path))

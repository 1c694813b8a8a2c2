"""Where a restart begins: the newest checkpoint whole on all ranks, and what the ledger proves."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from clicooper_hpc.errors import (
    ClicooperError,
    EvidenceError,
    ExitCode,
    PeerError,
    RunFolderError,
)
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.statements import parse_statement
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.checkpoint_check import (
    WantedCheckpoint,
    check_checkpoint,
    read_checkpoint_progress,
    read_checkpoint_state,
)
from clicooper_hpc.run.kept_rows import keep_owner_rows, keep_trainer_rows
from clicooper_hpc.run.owner_counts import parse_owner_count, parse_owner_counts
from clicooper_hpc.runstore.checkpoints import (
    RunCheckpoint,
    find_checkpoints,
)
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.tables.schema import (
    CHECKPOINTS,
    HEADS,
    LEDGER,
    MESSAGES,
    PROVING,
    STEPS,
    Table,
)
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.transport.world import World

__all__ = ["search_restart_point"]

_log = logging.getLogger(__name__)

Tables = dict[Table, dict[str, np.ndarray[Any, Any]]]


def search_restart_point(
    world: World,
    run: Run,
    plan: RunPlan,
    *,
    key: PublicIdentity | None,
    layers: nn.Module | None,
    deadline_s: float,
) -> RestartPoint:
    """Find, with all ranks, the point a restart begins at; collective.

    Parameters
    ----------
    run
        As it was interrupted.
    key
        Of this rank, which sealed its checkpoints; None without proofs.
    layers
        Of this rank's segment, which a checkpoint must fit; None on the owner.
    deadline_s
        Longest wait for a rank; of this start, for a restart may be given another.

    Raises
    ------
    AgreedFailure
        The tables of a rank cannot be read, or what it saved does not fit.
    """
    tables = agree(world, lambda: _read_tables(run, world.rank), deadline_s=deadline_s)
    steps = len(_remaining_column(tables, STEPS.name, "step"))
    wanted = WantedCheckpoint(world.rank, str(run.attrs["run_id"]), key, layers)
    checkpoint = _agree_on_checkpoint(world, run, steps, wanted, deadline_s=deadline_s)
    order = None if key is None else LedgerOrder(plan.segments, len(plan.stage_bounds) - 1)
    entries = agree(world, lambda: _standing_entries(tables, order), deadline_s=deadline_s)
    # The owner's ledger decides for all: what a trainer saw was stored there first.
    size = world.broadcast_bytes(
        None if world.rank else str(len(entries)).encode(), limit_bytes=32, deadline_s=deadline_s
    )

    def found_point() -> RestartPoint:
        standing = parse_owner_count(size, what="the size of the ledger")
        if standing > (0 if order is None else order.size):
            raise PeerError(
                f"a ledger of {standing} entries is longer than this run's can be",
                where="message from rank 0 (control)",
            )
        remains = _Remains(
            world.rank, run.folder.shard(world.rank), tables, checkpoint, plan, order, standing
        )
        return (
            _trainer_restart_point(remains)
            if world.rank
            else _owner_restart_point(remains, entries)
        )

    return agree(world, found_point, deadline_s=deadline_s)


@dataclass(frozen=True, slots=True)
class _Remains:
    """What one rank found of an interrupted run.

    ``path`` and ``tables`` its shard; ``standing`` entries of the owner's ledger that stand;
    ``order`` None without provenance.
    """

    rank: int
    path: Path
    tables: Tables
    checkpoint: RunCheckpoint | None
    plan: RunPlan
    order: LedgerOrder | None
    standing: int

    @property
    def step(self) -> int:
        """Steps done in the checkpoint."""
        return 0 if self.checkpoint is None else self.checkpoint.step

    @property
    def proved(self) -> int:
        """Stages whose proofs stand in the ledger."""
        return 0 if self.order is None else self.order.proved_stages(self.standing)

    @property
    def proved_step(self) -> int:
        """First step that is not proved yet."""
        return self.plan.stage_bounds[self.proved]

    def stage_progress(self) -> StageProgress | None:
        """Return what the checkpoint holds of the stage it lies in."""
        if self.checkpoint is None or self.order is None:
            return None
        return read_checkpoint_progress(self.checkpoint, self.rank)

    def state(self) -> Mapping[str, Tensor] | None:
        """Return the tensors of the segment in the checkpoint."""
        return (
            None if self.checkpoint is None else read_checkpoint_state(self.checkpoint, self.rank)
        )


def _owner_restart_point(remains: _Remains, entries: tuple[bytes, ...]) -> RestartPoint:
    order, standing = remains.order, remains.standing
    progress = remains.stage_progress()
    rows = keep_owner_rows(
        remains.tables, step=remains.step, plan=remains.plan, order=order, ledger=standing
    )
    return RestartPoint(
        step=remains.step,
        proved_step=remains.proved_step,
        stage_progress=progress,
        ledger_entries=entries,
        stored_checkpoints=rows.count(CHECKPOINTS.name),
        has_ledger=standing > 0,
        is_closed=order is not None and standing == order.size,
        rows=rows,
    )


def _trainer_restart_point(remains: _Remains) -> RestartPoint:
    step, proved_step, standing = remains.step, remains.proved_step, remains.standing
    progress = remains.stage_progress()
    if remains.order is not None:
        _check_ledger(remains)
    rows = keep_trainer_rows(
        remains.tables,
        step=step,
        bounds=remains.plan.stage_bounds,
        proved=remains.proved,
        ledger=standing,
    )
    # Rows of proved stages are signed, and those up to the checkpoint will be: neither can be
    # written a second time with the same bytes, for they hold times.
    is_short = rows.count(STEPS.name) != max(step, proved_step)
    if is_short or rows.count(PROVING.name) != remains.proved:
        raise RunFolderError(
            f"rows are missing that rank {remains.rank} has signed",
            where=str(remains.path),
            remedy="Bring back the file the run wrote; if this is the one, the owner's ledger "
            "claims more than was proved.",
        )
    # Read back to be compared with the ledger the owner shows: it must be the one seen before.
    heads: Mapping[str, Any] = rows.kept.get(HEADS.name, {"size": (), "root": (), "note": ()})
    return RestartPoint(
        step=step,
        proved_step=proved_step,
        state=remains.state(),
        stage_progress=progress,
        heads=[
            (int(size), bytes(root).decode("ascii"))
            for size, root in zip(heads["size"], heads["root"], strict=True)
        ],
        notes=[bytes(note).decode("utf-8", "replace") for note in heads.get("note", ())],
        messages=rows.count(MESSAGES.name),
        has_ledger=standing > 0,
        rows=rows,
    )


def _check_ledger(remains: _Remains) -> None:
    """Refuse an owner whose ledger is shorter than what this rank was shown.

    The owner stores entries before it sends them, so that cannot come of a kill.
    """
    rank, standing = remains.rank, remains.standing
    heads = _remaining_column(remains.tables, HEADS.name, "size")
    seen = max((int(size) for size in heads), default=0)
    if seen > standing or (remains.checkpoint is not None and not standing):
        raise EvidenceError(
            f"the owner's ledger has {standing} entries, and rank {rank} has seen {seen}",
            where="ledger before the restart",
            remedy="The owner's files are older than the run: bring back the newest ones.",
        )


def _remaining_column(tables: Tables, table: str, column: str) -> np.ndarray[Any, Any]:
    for found, rows in tables.items():
        if found.name == table:
            return rows[column]
    return np.empty(0, np.int64)


def _read_tables(run: Run, rank: int) -> Tables:
    """Return what ``rank`` wrote; nothing if it was stopped before its file was made."""
    if rank in run.missing_ranks:
        return {}
    return run.stored_rows(rank)


def _standing_entries(tables: Tables, order: LedgerOrder | None) -> tuple[bytes, ...]:
    """Return the entries of the owner's ledger that stand; on trainers nothing."""
    for table, rows in tables.items():
        if table.name == LEDGER.name and order is not None:
            # Entries are signed by their place: a gap means another file, not a kill.
            if rows["entry"].tolist() != list(range(len(rows["entry"]))):
                raise RunFolderError(
                    "the entries of the ledger are not in order",
                    where="rank-000.h5",
                    remedy="Bring back the file the run wrote.",
                )
            entries = tuple(bytes(entry) for entry in rows["envelope"])
            # A kill can leave half of what belongs together. Nobody was shown it, for entries are
            # stored before they are sent, so it may be dropped.
            entries = entries[: order.recoverable_size(len(entries))]
            _check_entries(entries)
            return entries
    return ()


def _check_entries(entries: Sequence[bytes]) -> None:
    """Refuse a ledger of another version before anything is written behind it.

    Raises
    ------
    EvidenceError
        An entry is no statement of this version.
    """
    for index, entry in enumerate(entries):
        where = f"ledger entry {index}"
        try:
            parse_statement(parse_envelope(entry, where=where).payload, where=where)
        except EvidenceError as error:
            # Tables would be cut and statements of two versions mixed, which nobody could verify.
            raise EvidenceError(
                error.what,
                where=where,
                remedy="If another version of clicooper began the run, go on with that one; "
                "otherwise bring back the file the run wrote.",
            ) from error


def _agree_on_checkpoint(
    world: World, run: Run, steps: int, wanted: WantedCheckpoint, *, deadline_s: float
) -> RunCheckpoint | None:
    """Return the newest checkpoint that is whole on every rank, and that its rows reach."""
    mine = {one.step: one for one in find_checkpoints(run.folder.path)}
    # A folder copied over from another run would fit in shape.
    mine = {step: one for step, one in mine.items() if one.run_id == wanted.run_id}
    listing = world.broadcast_bytes(
        None if world.rank else json.dumps(sorted(mine, reverse=True)).encode(),
        limit_bytes=2**16,
        deadline_s=deadline_s,
    )
    # From the owner's list, newest first, so that all ranks try the same step at the same time.
    for step in _parse_checkpoint_steps(listing):
        # Not `agree`: a checkpoint that does not serve ends nothing, the next one is tried.
        code, message = 0, ""
        try:
            if step not in mine:
                raise RunFolderError(f"this rank does not see the checkpoint after {step} steps")
            # Each rank reads what it will need itself: one host may see a damaged or older copy.
            check_checkpoint(mine[step], wanted)
            # A checkpoint is of use only with the rows of all its steps: they are signed with it.
            if steps < step:
                raise RunFolderError(
                    f"rank {world.rank} has the rows of {steps} steps only",
                    where=str(run.folder.shard(world.rank)),
                )
        except ClicooperError as error:
            code, message = int(error.exit_code), error.line()
        verdict = world.allreduce_failure(code, message, deadline_s=deadline_s)
        if verdict.code == ExitCode.DONE:
            return mine[step]
        if world.rank == 0:
            _log.warning(
                "the checkpoint after %d steps cannot be used, so an older one is: %s",
                step,
                verdict.message,
            )
    return None


def _parse_checkpoint_steps(listing: bytes) -> list[int]:
    """Return the steps of the owner's checkpoints, newest first."""
    what = "the steps of the owner's checkpoints"
    steps = parse_owner_counts(listing, what=what)
    # Every rank tries each of them once, and later ones are older.
    if steps != sorted(set(steps), reverse=True):
        raise PeerError(f"{what} do not fall", where="message from rank 0 (control)")
    return steps

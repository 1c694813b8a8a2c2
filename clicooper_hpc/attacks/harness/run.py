"""`clicooper attack`: what each party of a recorded run can find out; for the owner.

Tasks (attack, party, seed) are dealt over the shares of a job array and, within a share, over MPI
ranks. A share writes a file of its own; `--merge` puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from clicooper_hpc import __version__
from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    adversaries_of,
    adversary_named,
)
from clicooper_hpc.attacks.harness.attack import Attack
from clicooper_hpc.attacks.harness.figures import draw_figures
from clicooper_hpc.attacks.harness.options import AttackOptions, attack_options_target
from clicooper_hpc.attacks.harness.record import (
    order_record,
    record_exit_code,
    record_text,
    record_versions,
)
from clicooper_hpc.attacks.harness.recorded_run import RecordedRun
from clicooper_hpc.attacks.harness.suite import SUITE
from clicooper_hpc.attacks.harness.tasks import (
    AttackTask,
    attempt_task,
    deal_tasks,
    list_tasks,
)
from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.printable import printable_json, printable_text
from clicooper_hpc.progress.progress_line import ProgressLine
from clicooper_hpc.run.agreement import AgreedFailure, abort_unagreed, agree
from clicooper_hpc.runstore.attack_record import (
    ArrayKey,
    AttackRecord,
    pack_attack_record,
    unpack_attack_record,
    write_attack_record,
)
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.whole_run import Run, open_whole_run
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.launcher import launcher_rank, launcher_size
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["attack_run", "list_attacks"]


#: Longest wait for the slowest rank's recorded.
_PREPARE_S = 3600.0
#: Longest wait for the slowest rank's attacks.
_ATTACKS_S = 48 * 3600.0
_RECORD_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class _AttackPlan:
    """A recorded run, the attacks on it, and where the findings go."""

    recorded: RecordedRun
    attacks: dict[str, Attack]
    every: tuple[AttackTask, ...]
    target: Path
    about: dict[str, Attribute]


def list_attacks(path: Path | None, *, as_json: bool = False) -> str:
    """Return the attacks there are and, given a run, its parties."""
    if as_json:
        attacks = [
            {"name": one.name, "knows": one.knowledge, "source": one.source} for one in SUITE
        ]
        parties = [] if path is None else _adversaries_of_run(open_whole_run(path))
        return printable_json({"attacks": attacks, "parties": [one.name for one in parties]})
    lines = []
    for attack in SUITE:
        lines += [attack.name, f"  knows: {attack.knowledge}", f"  source: {attack.source}"]
    if path is not None:
        parties = _adversaries_of_run(open_whole_run(path))
        lines.append(f"parties: {', '.join(party.name for party in parties)}")
    return "\n".join(lines)


def attack_run(path: Path, options: AttackOptions) -> tuple[str, ExitCode]:
    """Attack the run in ``path``; return what to print (nothing but on rank 0) and the exit code.

    An attack that breaks off becomes a finding that says why, and the exit code is 1.

    Raises
    ------
    UsageError
        An attack, a party or a number is not there.
    RunFolderError
        It is not a complete run with its owner's secrets, or there are findings already.
    """
    # On a login node starting MPI may fail or be forbidden.
    if (launcher_size() or 1) == 1:  # MPI is left alone without a launcher
        plan = _plan_attacks(path, options)
        return _finish_attacks(plan, options, [_attack_tasks_of(plan, options, 0, 1)])
    world = _start_attack_ranks()
    try:
        with world:
            plan = agree(
                world,
                lambda: _plan_attacks(path, options),
                deadline_s=_PREPARE_S,
                report=_print_attack_message,
            )
            record = _attack_tasks_of(plan, options, world.rank, world.size)
            records = _gather_attack_records(world, record)
            shown = agree(
                world,
                lambda: (
                    ("", ExitCode.DONE)
                    if records is None
                    else _finish_attacks(plan, options, records)
                ),
                # Ranks whose findings are taken early wait here for the slowest.
                deadline_s=_ATTACKS_S,
                report=_print_attack_message,
            )
    except AgreedFailure as failure:
        return "", ExitCode(failure.code)
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        abort_unagreed(world, error, report=_print_attack_message)
    return shown


def _plan_attacks(path: Path, options: AttackOptions) -> _AttackPlan:
    if options.seeds < 1:
        raise UsageError(f"{options.seeds} seeds are none", where="--seeds")
    if not 0 < options.scale <= 1:
        raise UsageError(f"{options.scale:g} is not above 0 and at most 1", where="--scale")
    known = {attack.name: attack for attack in SUITE}
    unknown = [name for name in options.only if name not in known]
    if unknown:
        raise UsageError(
            f"there is no attack {unknown[0]!r}",
            where="--only",
            remedy=f"Attacks: {', '.join(known)}.",
        )
    run = open_whole_run(path)
    target = attack_options_target(run, options)
    # In the order of the suite, whatever order they were asked for in: shares must agree on it.
    chosen = [name for name in known if not options.only or name in options.only]
    there = _adversaries_of_run(run)
    wanted = [adversary_named(there, name).name for name in options.parties]
    parties = [one.name for one in there if not wanted or one.name in wanted]
    with ProgressLine("attack: reading the run", quiet=options.quiet or bool(launcher_rank())):
        recorded = RecordedRun(run, public=options.public)
    about: dict[str, Attribute] = {
        "run_id": str(run.attrs["run_id"]),
        "job_digest": str(run.attrs["job_digest"]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "creator": "clicooper-hpc",
        "creator_version": __version__,
        **record_versions(),
        "attacks": ", ".join(chosen),
        "parties": ", ".join(parties),
        "seeds": options.seeds,
        "scale": options.scale,
        "share": f"{options.share.number}/{options.share.of}",
        "aux_same": len(recorded.aux.same),
        "aux_public": recorded.public,
    }
    every = list_tasks(chosen, parties, options.seeds)
    return _AttackPlan(recorded, {name: known[name] for name in chosen}, every, target, about)


def _adversaries_of_run(run: Run) -> tuple[Adversary, ...]:
    # Runs of older versions have no such section: they released rows.
    mode = str(run.job_section("release").get("mode", "rows"))
    return adversaries_of(len(run.ranks) - 1, mode)


def _attack_tasks_of(
    plan: _AttackPlan, options: AttackOptions, rank: int, ranks: int
) -> AttackRecord:
    """Run this rank's part of this share's tasks."""
    # First over shares, then over ranks: a share gets the same tasks on any number of ranks.
    mine = deal_tasks(
        deal_tasks(plan.every, options.share.number - 1, options.share.of), rank, ranks
    )
    findings = []
    arrays = {}
    view: AdversaryView | None = None
    # Of several ranks one speaks for all: each has about as many.
    title = "attacks done:" if ranks == 1 else f"attacks done by the first of {ranks} ranks:"
    with ProgressLine(title, len(mine), quiet=options.quiet or rank > 0, last=True) as progress:
        for task in mine:
            progress.note = (f"now {task.attack}, {task.party}, seed {task.seed}",)
            # Tasks come party by party, so one view at a time is enough.
            if view is None or view.adversary.name != task.party:
                view = plan.recorded.view(plan.recorded.adversary(task.party))
            outcome = attempt_task(
                plan.attacks[task.attack],
                view,
                plan.recorded.aux,
                plan.recorded.truth,
                seed=task.seed,
                scale=options.scale,
            )
            findings += [asdict(result) for result in outcome.results]
            for name, values in outcome.arrays.items():
                key: ArrayKey = (task.attack, task.party, task.seed, name)
                arrays[key] = values
            progress.advance()
        progress.note = ()
    return AttackRecord(plan.about, findings, arrays)


def _finish_attacks(
    plan: _AttackPlan, options: AttackOptions, records: Sequence[AttackRecord]
) -> tuple[str, ExitCode]:
    """Put the ranks' parts together and store them; return report and exit code."""
    whole = AttackRecord(
        plan.about,
        [row for record in records for row in record.findings],
        {key: values for record in records for key, values in record.arrays.items()},
    )
    whole = order_record(whole, plan.every)
    write_attack_record(plan.target, whole)
    if options.figures is not None:
        draw_figures(whole, options.figures)
    return record_text(
        whole, plan.target, as_json=options.as_json, every=options.every
    ), record_exit_code(whole)


def _start_attack_ranks() -> World:
    """Start MPI, and give every rank of a node its own device where there are several."""
    world = start_mpi()
    check_mpi_world(world)
    if torch.cuda.is_available():
        # Local, not global, rank: devices are numbered anew on each node.
        torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
    return world


def _gather_attack_records(world: World, record: AttackRecord) -> list[AttackRecord] | None:
    """Bring every rank's record to rank 0, in rank order; the others get ``None``."""
    parts = world.gather_bytes(
        pack_attack_record(record), limit_bytes=_RECORD_BYTES, deadline_s=_ATTACKS_S
    )
    if parts is None:
        return None
    return [
        unpack_attack_record(part, where=f"findings of rank {rank}")
        for rank, part in enumerate(parts)
    ]


def _print_attack_message(rank: int, size: int, message: str) -> None:
    """Print one line to standard error; ranks have no roles here."""
    del rank, size
    write_error_line(printable_text(f"clicooper: {message}"))

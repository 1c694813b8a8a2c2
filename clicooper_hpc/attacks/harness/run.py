"""`clicooper attack`: what each party of a recorded run can find out; for the owner.

Cells (attack, party, seed) are dealt over the shares of a job array and, within a share, over MPI
ranks. A share writes a file of its own; `--merge` puts them together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from clicooper_hpc import __version__
from clicooper_hpc.attacks.harness.figures import draw_figures
from clicooper_hpc.attacks.harness.options import AttackOptions, target_of
from clicooper_hpc.attacks.harness.parties import parties_of, party_named
from clicooper_hpc.attacks.harness.ranks import (
    ATTACKS_S,
    PREPARE_S,
    gather_records,
    ranks_started,
    start_ranks,
    tell,
)
from clicooper_hpc.attacks.harness.record import exit_code, in_order, library_versions, told
from clicooper_hpc.attacks.harness.recorded_run import RecordedRun
from clicooper_hpc.attacks.harness.registry import Attack
from clicooper_hpc.attacks.harness.share import Cell, attempt, cells_of, deal
from clicooper_hpc.attacks.harness.suite import SUITE
from clicooper_hpc.attacks.harness.view import View
from clicooper_hpc.errors import ExitCode, UsageError
from clicooper_hpc.run.agreement import AgreedFailure, abort_unagreed, agree
from clicooper_hpc.runstore.attacks import ArrayKey, AttackRecord, write_record
from clicooper_hpc.runstore.h5 import Attribute
from clicooper_hpc.runstore.reader import open_run

__all__ = ["attack_run", "list_text"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A scene, the attacks on it, and where the findings go."""

    scene: RecordedRun
    attacks: dict[str, Attack]
    every: tuple[Cell, ...]
    target: Path
    about: dict[str, Attribute]


def list_text(path: Path | None) -> str:
    """Return the attacks there are and, given a run, its parties."""
    lines = []
    for attack in SUITE:
        lines += [attack.name, f"  knows: {attack.knowledge}", f"  source: {attack.source}"]
    if path is not None:
        parties = parties_of(len(open_run(path).ranks) - 1)
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
    if ranks_started() == 1:
        plan = _plan(path, options)
        return _finish(plan, options, [_carry_out(plan, options, 0, 1)])
    world = start_ranks()
    try:
        with world:
            plan = agree(world, lambda: _plan(path, options), deadline_s=PREPARE_S, report=tell)
            record = _carry_out(plan, options, world.rank, world.size)
            records = gather_records(world, record)
            shown = agree(
                world,
                lambda: ("", ExitCode.DONE) if records is None else _finish(plan, options, records),
                # Ranks whose findings are taken early wait here for the slowest.
                deadline_s=ATTACKS_S,
                report=tell,
            )
    except AgreedFailure as failure:
        return "", ExitCode(failure.code)
    except BaseException as error:  # noqa: BLE001 - whatever it is, no other rank may hang
        abort_unagreed(world, error, report=tell)
    return shown


def _plan(path: Path, options: AttackOptions) -> _Plan:
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
    run = open_run(path)
    target = target_of(run, options)
    chosen = [name for name in known if not options.only or name in options.only]
    there = parties_of(len(run.ranks) - 1)
    wanted = [party_named(there, name).name for name in options.parties]
    parties = [one.name for one in there if not wanted or one.name in wanted]
    scene = RecordedRun(run, public=options.public)
    about: dict[str, Attribute] = {
        "run_id": str(run.attrs["run_id"]),
        "job_digest": str(run.attrs["job_digest"]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "creator": "clicooper-hpc",
        "creator_version": __version__,
        **library_versions(),
        "attacks": ", ".join(chosen),
        "parties": ", ".join(parties),
        "seeds": options.seeds,
        "scale": options.scale,
        "share": f"{options.share.number}/{options.share.of}",
        "aux_same": len(scene.aux.same),
        "aux_public": scene.public,
    }
    every = cells_of(chosen, parties, options.seeds)
    return _Plan(scene, {name: known[name] for name in chosen}, every, target, about)


def _carry_out(plan: _Plan, options: AttackOptions, rank: int, ranks: int) -> AttackRecord:
    """Run this rank's part of this share's cells."""
    mine = deal(deal(plan.every, options.share.number - 1, options.share.of), rank, ranks)
    findings = []
    arrays = {}
    view: View | None = None
    hidden = rank > 0 or not sys.stderr.isatty()
    with tqdm(total=len(mine), unit="attack", disable=hidden, file=sys.stderr) as bar:
        for cell in mine:
            bar.set_postfix_str(f"{cell.attack}, {cell.party}, seed {cell.seed}")
            # Cells come party by party, so one view at a time is enough.
            if view is None or view.party.name != cell.party:
                view = plan.scene.view(plan.scene.party(cell.party))
            outcome = attempt(
                plan.attacks[cell.attack],
                view,
                plan.scene.aux,
                plan.scene.truth,
                seed=cell.seed,
                scale=options.scale,
            )
            findings += [asdict(finding) for finding in outcome.findings]
            for name, values in outcome.arrays.items():
                key: ArrayKey = (cell.attack, cell.party, cell.seed, name)
                arrays[key] = values
            bar.update()
    return AttackRecord(plan.about, findings, arrays)


def _finish(
    plan: _Plan, options: AttackOptions, records: Sequence[AttackRecord]
) -> tuple[str, ExitCode]:
    """Put the ranks' parts together, store and tell them."""
    whole = AttackRecord(
        plan.about,
        [row for record in records for row in record.findings],
        {key: values for record in records for key, values in record.arrays.items()},
    )
    whole = in_order(whole, plan.every)
    write_record(plan.target, whole)
    if options.figures is not None:
        draw_figures(whole, options.figures)
    return told(whole, plan.target, as_json=options.as_json, every=options.every), exit_code(whole)

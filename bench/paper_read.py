"""What a finished run and the attacks on it found, read from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clicooper_hpc.attacks.harness.record import record_results
from clicooper_hpc.attacks.harness.table import TableLine, table_lines
from clicooper_hpc.attacks.harness.tasks import FAILED
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.attack_record import ATTACKS_FILE, AttackRecord, read_attack_record
from clicooper_hpc.runstore.reader import open_run


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Parameters
    ----------
    accuracy
        Of the delivered model on clean test images.
    front, network
        Of its parts alone, where the front ends in class scores; else nan.
    sums, moments, gradients
        Of what the owner has without trainers where sums over all samples were released: class
        sums, the linear model of the moments, the same after rounds; nan where there is none.
    epsilon
        Of a whole sample; infinite without noise.
    classes
        K.
    release
        Unit, epsilon, delta, numbers a row and noise, in one line.
    lines
        Every figure of every attack; empty if it was not attacked.
    failed
        Attacks that broke off, and why.
    scale
        Part of the published strength.
    aux
        What attackers had.
    commit
        Of the package that made the run.
    """

    accuracy: float
    epsilon: float
    classes: int
    release: str
    lines: tuple[TableLine, ...] = ()
    failed: tuple[str, ...] = ()
    scale: float = 1.0
    aux: str = ""
    commit: str = ""
    front: float = math.nan
    network: float = math.nan
    sums: float = math.nan
    moments: float = math.nan
    gradients: float = math.nan


def read_measured(folder: Path) -> Measured | None:
    """Read the run in ``folder``; None if there is no complete one."""
    try:
        run = open_run(folder)
    except RunFolderError:
        return None
    if run.status != "complete":
        return None
    card, job = run.privacy, run.job
    private, results = bool(card.get("private", False)), run.results
    plain = Measured(
        accuracy=float(results["clean_accuracy"]),
        epsilon=float(card["spec.sample_epsilon"]) if private else math.inf,
        classes=int(card["labels.classes"]),
        release=(
            f"{_released(job)}unit {job['privacy']['unit']}, "
            f"epsilon {job['privacy']['epsilon']:g}, delta {job['privacy']['delta']:g}, "
            f"{card['spec.guarantee.dimension']} numbers a row, "
            f"noise {float(card['spec.sigma']):.3g} at clip {job['privacy']['clip']:g}, "
            f"labels {job['labels']['method']} x {job['labels']['expansion']}"
            if private
            else "no noise"
        ),
        commit=str(run.attrs.get("git_commit", "")),
        front=float(results.get("front_accuracy", math.nan)),
        network=float(results.get("network_accuracy", math.nan)),
        sums=float(results.get("class_sums_accuracy", math.nan)),
        moments=float(results.get("moments_accuracy", math.nan)),
        gradients=float(results.get("gradients_accuracy", math.nan)),
    )
    record = read_attacks(folder)
    if record is None or record.attributes["run_id"] != run.attrs["run_id"]:
        return plain
    lines = table_lines(record_results(record))
    return replace(
        plain,
        lines=tuple(line for line in lines if not math.isnan(line.value)),
        failed=tuple(
            f"{one.attack}, {one.party}: {one.note}" for one in lines if one.metric == FAILED
        ),
        scale=float(record.attributes["scale"]),
        aux=f"{record.attributes['aux_same']} images of the owner's distribution, public data: "
        f"{record.attributes['aux_public']}",
    )


def _released(job: Mapping[str, Any]) -> str:
    """Return what was released, where that is no rows; runs of before had rows alone."""
    mode = job.get("release", {}).get("mode", "rows")
    return "" if mode == "rows" else f"{mode} of all samples, "


def read_attacks(folder: Path) -> AttackRecord | None:
    """Read the findings in a run folder; None without."""
    try:
        return read_attack_record(folder / "private" / ATTACKS_FILE)
    except RunFolderError:
        return None

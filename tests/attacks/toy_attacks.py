"""Attacks whose outcome is known beforehand, for tests of what is around attacks."""

from __future__ import annotations

import math

import numpy as np

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult

__all__ = ["TOYS", "toy"]


def needs_rows(view: AdversaryView) -> str | None:
    return None if len(view.rows) else "it holds no rows"


def measure(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """Figures that depend on everything an attack is given."""
    mean = float(view.rows.mean()) + float(aux.same.images.mean()) + scale
    findings = (
        AttackResult(
            "named by itself", "mean", "nobody", "sum", "honest", mean + seed, mean, mean + 2, 0.5
        ),
        AttackResult("", "size", "", "rows", "paper", float(len(view.rows)), note="as counted"),
        AttackResult("", "truth", "", "classes", "paper", float(truth.classes), baseline=1.0),
    )
    picture = np.random.default_rng(seed).random((2, 3), dtype=np.float32)
    return AttackOutcome(findings, {"picture": picture, "count": np.array(seed)})


def fail(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    raise ArithmeticError("the matrix is singular\nand more")


def spoil(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """Write into everything an attack could reach by mistake."""
    view.rows[:] = math.nan
    for segment in view.segments.values():
        for parameter in segment.parameters():
            parameter.data.zero_()
    return AttackOutcome((AttackResult("", "-", "", "done", "honest", 1.0),))


def toy(name: str) -> Attack:
    return next(attack for attack in TOYS if attack.name == name)


TOYS = (
    Attack("measure", "nothing", "none", needs_rows, measure),
    Attack("broken", "nothing", "none", lambda view: None, fail),
    Attack("spoil", "nothing", "none", needs_rows, spoil),
)

"""Attacks whose outcome is known beforehand, for tests of what is around attacks."""

from __future__ import annotations

import math

import numpy as np

from clicooper_hpc.attacks.harness.registry import Attack, Outcome
from clicooper_hpc.attacks.harness.result import AttackResult
from clicooper_hpc.attacks.harness.view import Aux, Truth, View

__all__ = ["TOYS", "toy"]


def needs_rows(view: View) -> str | None:
    return None if len(view.rows) else "it holds no rows"


def measure(view: View, aux: Aux, truth: Truth, seed: int, scale: float) -> Outcome:
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
    return Outcome(findings, {"picture": picture, "count": np.array(seed)})


def fail(view: View, aux: Aux, truth: Truth, seed: int, scale: float) -> Outcome:
    raise ArithmeticError("the matrix is singular\nand more")


def spoil(view: View, aux: Aux, truth: Truth, seed: int, scale: float) -> Outcome:
    """Write into everything an attack could reach by mistake."""
    view.rows[:] = math.nan
    for segment in view.segments.values():
        for parameter in segment.parameters():
            parameter.data.zero_()
    return Outcome((AttackResult("", "-", "", "done", "honest", 1.0),))


def toy(name: str) -> Attack:
    return next(attack for attack in TOYS if attack.name == name)


TOYS = (
    Attack("measure", "nothing", "none", needs_rows, measure),
    Attack("broken", "nothing", "none", lambda view: None, fail),
    Attack("spoil", "nothing", "none", needs_rows, spoil),
)

"""Dealing attacks over ranks and array tasks, and carrying out one of them without losing others.

A task is one attack by one party with one seed. Tasks are dealt round robin, party by party, so
that a share holds neighbouring seeds of as few parties as can be and works on one view at a time.
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.errors import UsageError

__all__ = [
    "FAILED",
    "NOT_APPLICABLE",
    "AttackTask",
    "TaskShare",
    "attempt_task",
    "deal_tasks",
    "list_tasks",
    "parse_task_share",
]

#: Metrics of findings that hold no figure; ``note`` says why.
FAILED: Final = "failed"
NOT_APPLICABLE: Final = "not applicable"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AttackTask:
    """One attack, by name, of one party, by name, with one seed."""

    attack: str
    party: str
    seed: int


@dataclass(frozen=True, slots=True)
class TaskShare:
    """Part ``number`` (from 1) of ``of`` parts."""

    number: int = 1
    of: int = 1

    def file_name(self, whole: str) -> str:
        """Return the name of this share's file: ``attacks.h5`` becomes ``attacks-2-of-8.h5``."""
        path = Path(whole)
        return whole if self.of == 1 else f"{path.stem}-{self.number}-of-{self.of}{path.suffix}"


def parse_task_share(text: str) -> TaskShare:
    """Read ``"I/N"``.

    Raises
    ------
    UsageError
        It is not of that form, or I is not between 1 and N.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    share = TaskShare(int(found[1]), int(found[2])) if found else TaskShare(0, 0)
    if not 1 <= share.number <= share.of:
        raise UsageError(
            f"{text!r} is no share",
            where="--share",
            remedy="Give I/N with I from 1 to N, such as 3/8.",
        )
    return share


def list_tasks(
    attacks: Sequence[str], parties: Sequence[str], seeds: int
) -> tuple[AttackTask, ...]:
    """Return all tasks, party by party, seeds 0 to ``seeds - 1`` innermost."""
    return tuple(
        AttackTask(attack, party, seed)
        for party in parties
        for attack in attacks
        for seed in range(seeds)
    )


def deal_tasks(things: Sequence[_T], part: int, parts: int) -> tuple[_T, ...]:
    """Return what part ``part`` (from 0) of ``parts`` gets, in the order given."""
    if not 0 <= part < parts:
        raise ValueError(f"there is no part {part} of {parts}")
    # Round robin: neighbouring tasks take about as long, and blocks would leave one part all the
    # slow ones.
    return tuple(things[part::parts])


def attempt_task(
    attack: Attack,
    view: AdversaryView,
    aux: AuxiliaryData,
    truth: GroundTruth,
    *,
    seed: int,
    scale: float,
) -> AttackOutcome:
    """Carry out an attack; whatever goes wrong becomes a finding that says so.

    A view that does not suit the attack gives one finding, with seed 0.
    """
    blank = AttackResult(
        attack.name, "-", view.adversary.name, FAILED, "honest", math.nan, seed=seed, note=""
    )
    try:
        reason = _task_holds_nothing(view) or attack.applies(view)
        if reason is not None:
            # Once, not for each seed: the reason does not depend on chance.
            unsuited = replace(blank, metric=NOT_APPLICABLE, note=reason)
            return AttackOutcome((unsuited,) if seed == 0 else ())
        outcome = attack.run(view, aux, truth, seed, scale)
        # Now, while only this task is lost.
        _check_task_arrays(outcome)
    except Exception as error:  # noqa: BLE001 - one attack must not take the others with it
        return AttackOutcome((replace(blank, note=_task_error(error)),))
    # The task is what the caller asked for, whatever the attack calls it.
    named = (
        replace(result, attack=attack.name, party=view.adversary.name, seed=seed)
        for result in outcome.results
    )
    return AttackOutcome(tuple(named), outcome.arrays)


def _task_holds_nothing(view: AdversaryView) -> str | None:
    held = len(view.rows) or view.segments or view.held is not None
    return None if held else "it holds neither rows nor weights"


def _check_task_arrays(outcome: AttackOutcome) -> None:
    """Refuse here what could not be stored later, when it would cost all results."""
    for name, values in outcome.arrays.items():
        if not name or "/" in name or name == ".":
            raise ValueError(f"an array cannot be called {name!r}")
        # HDF5 readers in other languages take numbers and flags; objects would need pickle.
        if np.asarray(values).dtype.kind not in "biuf":
            raise TypeError(f"array {name!r} has dtype {np.asarray(values).dtype}")


def _task_error(error: Exception) -> str:
    # The innermost frame: where it happened, not where the suite called it.
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first} ({Path(place.filename).name}, line {place.lineno})"

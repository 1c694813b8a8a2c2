"""What an attack is to the suite: how it is run, and the results it hands back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth

__all__ = ["Attack", "AttackOutcome", "AttackResult", "MetricKind"]

#: ``paper``: the paper's own metric. ``honest``: what such an attacker really gains.
MetricKind = Literal["paper", "honest"]


@dataclass(frozen=True, slots=True)
class AttackResult:
    """A score of an attack.

    Parameters
    ----------
    attack, variant
        Name of the attack (as in the suite), and how it was done.
    party
        Name of the attacker's `Adversary`.
    metric, kind
        What was measured, and whether it is the paper's metric or the honest one.
    value
        The score.
    low, high
        95 % confidence interval; nan where there is none.
    chance
        Score of a blind guess; nan where that means nothing.
    baseline
        Score of an attacker who knows only what is public, such as the mean image; nan if none.
    ceiling
        What differential privacy lets nobody exceed; nan without one.
    seed
        Of the attacker's chance.
    note
        Knowledge used, sizes; one line.
    """

    attack: str
    variant: str
    party: str
    metric: str
    kind: MetricKind
    value: float
    low: float = math.nan
    high: float = math.nan
    chance: float = math.nan
    baseline: float = math.nan
    ceiling: float = math.nan
    seed: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """Scores of an attack, and pictures or curves worth keeping, by name."""

    results: tuple[AttackResult, ...]
    arrays: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Parameters
    ----------
    name
        A word of the command line.
    knowledge
        What the attacker knows beyond its view; one line for tables.
    source
        Paper.
    applies
        Why a view does not suit it (one line), or None if it does.
    run
        Attacks with a seed and a compute scale (1 = as published; tests use less), scores with the
        truth.
    """

    name: str
    knowledge: str
    source: str
    applies: Callable[[AdversaryView], str | None]
    run: Callable[[AdversaryView, AuxiliaryData, GroundTruth, int, float], AttackOutcome]

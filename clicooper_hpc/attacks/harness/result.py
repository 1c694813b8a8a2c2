"""One figure that an attack reached, beside what makes it readable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["AttackResult", "Metric"]

#: ``paper``: the paper's own metric. ``honest``: what such an attacker really gains.
Metric = Literal["paper", "honest"]


@dataclass(frozen=True, slots=True)
class AttackResult:
    """A score of an attack.

    Parameters
    ----------
    attack, variant
        Name of the attack (as in the registry), and how it was done.
    party
        Name of the attacker's `Party`.
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
    kind: Metric
    value: float
    low: float = math.nan
    high: float = math.nan
    chance: float = math.nan
    baseline: float = math.nan
    ceiling: float = math.nan
    seed: int = 0
    note: str = ""

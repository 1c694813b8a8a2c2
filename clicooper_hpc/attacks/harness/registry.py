"""The attacks by name: what each needs of a view, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.result import AttackResult
from clicooper_hpc.attacks.harness.view import Aux, Truth, View

__all__ = ["Attack", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Scores of an attack, and pictures or curves worth keeping, by name."""

    findings: tuple[AttackResult, ...]
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
    applies: Callable[[View], str | None]
    run: Callable[[View, Aux, Truth, int, float], Outcome]

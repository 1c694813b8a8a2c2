"""`tolerance_verdict`: comparison within a tolerance, where a replay cannot be equal to the bit.

The measure is how far the claimed end of a stage lies from the replayed one, as a fraction of the
way the stage went: |W' - W| / |W - W0|, with W0 the state before the stage, W the claimed and W'
the replayed state after it, L2 norm over all numbers of a segment (cf. Jia et al., S&P 2021, arXiv
2103.05633, section V). Work left out gives values of the order of the fraction left out; a stage
that was not trained at all divides by zero and is infinitely far.

Rounding grows with every step, so a tolerance holds for a number of steps: three times the largest
value of honest replays of that many, on the machines in question (`tolerance_from_replays`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clicooper_hpc.audit.replay import StageReplay
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.audit.verdict import StageFault, StageOutcome, StageVerdict
from clicooper_hpc.training.segment_state import WEIGHTS

__all__ = ["StateDistance", "tolerance_distance", "tolerance_from_replays", "tolerance_verdict"]

_WEIGHTS = WEIGHTS.rstrip("/")
# Fewer would make the largest of them a matter of luck.
_FEWEST_REPLAYS = 20
_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class StateDistance:
    """How far a claimed state is from the replayed one, as a fraction of the stage's way.

    ``weights`` speaks of what is delivered (weights and buffers), ``training`` of what only the
    training needs: the largest over local head and each kind of moment the optimizer keeps, as
    their scales have nothing to do with each other.
    """

    weights: float
    training: float

    @property
    def largest(self) -> float:
        """The larger of the two; NaN if either is."""
        return max(self.weights, self.training, key=_nan_last)


def tolerance_distance(
    claimed: Mapping[str, Tensor], replayed: Mapping[str, Tensor], start: Mapping[str, Tensor]
) -> StateDistance:
    """Measure one segment. A moment the optimizer did not have yet counts as zero in ``start``.

    Whole numbers and counters (tensors without dimensions) must be equal, or it is infinite, as it
    is if names, shapes or dtypes differ.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(claimed.keys() | replayed.keys()):
        groups.setdefault(_tolerance_group(name), []).append(name)
    values = {
        group: _relative_distance(names, claimed, replayed, start)
        for group, names in groups.items()
    }
    weights = values.pop(_WEIGHTS, 0.0)
    return StateDistance(weights, max(values.values(), default=0.0, key=_nan_last))


def tolerance_verdict(
    replay: StageReplay,
    claim: StageClaim,
    starts: Sequence[Mapping[str, Tensor]],
    tolerance: float,
) -> StageVerdict:
    """Compare within ``tolerance`` (0 < tolerance < 1); the outcome is TOL or FAIL, never EXACT.

    ``starts`` are the states before the stage. Messages are not compared: their digests tell equal
    from unequal only. A wrong message also leads the segments behind it astray, so a FAIL lists all
    that are too far, the farthest first: that one is suspected, not convicted.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance}")
    if not len(replay.states) == len(claim.states) == len(starts):
        raise ValueError(f"{len(claim.states)} claims for {len(replay.states)} segments")
    distances = [
        tolerance_distance(claimed, replayed, start)
        for claimed, replayed, start in zip(claim.states, replay.states, starts, strict=True)
    ]
    # NaN is not within any tolerance.
    far = [rank for rank, d in enumerate(distances, start=1) if not d.largest <= tolerance]
    if not far:
        largest = max((distance.largest for distance in distances), default=0.0)
        return StageVerdict(
            StageOutcome.TOL,
            f"the states of {len(distances)} segments are within {tolerance:g} of the replay "
            f"(largest {largest:.2g}); equality to the bit was not tested",
        )
    # NaN first of all: it is farther than any number.
    far.sort(key=lambda rank: -_nan_last(distances[rank - 1].largest))
    return StageVerdict(
        StageOutcome.FAIL,
        f"states are farther from the replay than {tolerance:g}; compared within a tolerance, so "
        "the first segment below is suspected, not convicted",
        tuple(StageFault(rank, _distance_words(distances[rank - 1])) for rank in far),
    )


def tolerance_from_replays(honest: Sequence[float]) -> float:
    """Return three times the largest of at least 20 distances of honest replays."""
    if len(honest) < _FEWEST_REPLAYS or not all(math.isfinite(value) for value in honest):
        raise ValueError(f"{len(honest)} honest replays: at least {_FEWEST_REPLAYS} are needed")
    return _MARGIN * max(honest)


def _tolerance_group(name: str) -> str:
    """Return what is measured together: weights, head, or one kind of moment."""
    parts = name.split("/")
    return parts[-1] if parts[:2] == ["training", "optimizer"] else "/".join(parts[:-1])


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _distance_words(distance: StateDistance) -> str:
    return (
        f"weights {distance.weights:.2g} and optimizer {distance.training:.2g} of the stage's way "
        "apart"
    )


def _relative_distance(
    names: Sequence[str],
    claimed: Mapping[str, Tensor],
    replayed: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
) -> float:
    apart = way = 0.0
    for name in names:
        if name not in claimed or name not in replayed:
            return math.inf
        theirs, mine = claimed[name], replayed[name]
        if theirs.shape != mine.shape or theirs.dtype != mine.dtype:
            return math.inf
        if theirs.ndim == 0 or not theirs.is_floating_point():
            # Counters and whole numbers do not round: a step left out shows here.
            if not torch.equal(theirs, mine):
                return math.inf
            continue
        # Optimizers make their moments in the first step; before that they count as zero.
        before = start.get(name, torch.zeros_like(theirs))
        # In float64: squares of small differences vanish in float32.
        apart += float((mine.double() - theirs.double()).square().sum())
        way += float((theirs.double() - before.double()).square().sum())
    # Before the division: a stage that moved nothing is exact if it was claimed so.
    if apart == 0.0:
        return 0.0
    return math.sqrt(apart / way) if way > 0.0 else math.inf

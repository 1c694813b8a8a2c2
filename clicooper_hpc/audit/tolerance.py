"""`tolerance_verdict`: comparison within a tolerance, where a replay cannot be equal to the bit.

The measure is taken tensor by tensor: how far the claimed end of a stage lies from the replayed
one, as a fraction of the way that this very tensor went in the replay (cf. Jia et al., S&P 2021,
arXiv 2103.05633, section V):

    |W' - W| / |W - W0|     W0 before the stage, W the replayed, W' the claimed end; L2 norm

Work left out gives values of the order of the fraction left out; a tensor that was not trained at
all gives 1, however small its way. The numbers that carry the mark of the stage are measured by
themselves: putting a mark in moves them farther than training does and costs no training, so
neither the way nor the distance of the others may contain it.

**Below rounding.** A float of p bits is rounded once a step, so two honest ends may be sqrt(steps)
2^-p |W| apart whatever the way. Where the tolerance times the way is less than that, the tensor
stands still: it must be no farther away than rounding, and shows nothing about work. A segment of
which all weights stand still is not judged.

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

__all__ = [
    "SegmentDistance",
    "StageWay",
    "tensor_distances",
    "tolerance_from_replays",
    "tolerance_verdict",
]

# Fewer would make the largest of them a matter of luck.
_FEWEST_REPLAYS = 20
_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class StageWay:
    """What a segment's distance is measured by.

    Attributes
    ----------
    start
        Its state before the stage. A moment the optimizer did not have yet counts as zero.
    steps
        Steps of the stage.
    carriers
        Which numbers of which tensors carry the mark of the stage (bool, in the tensor's shape).
    """

    start: Mapping[str, Tensor]
    steps: int
    carriers: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class SegmentDistance:
    """How far a claimed state is from the replayed one: the farthest tensor decides.

    ``name`` is that tensor, ``moves`` whether any weight of the segment moves beyond rounding.
    """

    value: float
    name: str
    moves: bool


def tensor_distances(
    claimed: Mapping[str, Tensor], replayed: Mapping[str, Tensor], way: StageWay, tolerance: float
) -> SegmentDistance:
    """Measure one segment.

    Whole numbers and counters (tensors without dimensions) must be equal, or the distance is
    infinite, as it is if names, shapes or dtypes differ, or a number is not finite.
    """
    farthest, at = 0.0, ""
    weights = moves = False
    for name in sorted(claimed.keys() | replayed.keys()):
        if name.startswith(WEIGHTS):
            weights = True
        if name not in claimed or name not in replayed:
            return SegmentDistance(math.inf, name, True)
        theirs, mine = claimed[name], replayed[name]
        if theirs.shape != mine.shape or theirs.dtype != mine.dtype:
            return SegmentDistance(math.inf, name, True)
        if theirs.ndim == 0 or not theirs.is_floating_point():
            # Counters and whole numbers do not round: a step left out shows here.
            if not torch.equal(theirs, mine):
                return SegmentDistance(math.inf, name, True)
            continue
        for part, chosen in _tensor_parts(name, mine, way):
            value, is_way = _part_distance(theirs, mine, chosen, way, name, tolerance)
            # Not `max`: NaN is farther than any number.
            if math.isnan(value) or value > farthest:
                farthest, at = (math.inf if math.isnan(value) else value), part
            moves = moves or (is_way and part.startswith(WEIGHTS) and part == name)
    return SegmentDistance(farthest, at, moves or not weights)


def tolerance_verdict(
    replay: StageReplay,
    claim: StageClaim,
    ways: Sequence[StageWay],
    tolerance: float,
    *,
    excuses: Mapping[int, str] | None = None,
    notes: Sequence[StageFault] = (),
) -> StageVerdict:
    """Compare within ``tolerance`` (0 < tolerance < 1); never EXACT.

    Messages are not compared: their digests tell equal from unequal only. A wrong message leads
    the segments beside it astray, be they ever so honest, so a FAIL convicts nobody: it lists all
    that are too far, the farthest first. ``excuses`` and ``notes`` as of `exact_verdict`.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"a tolerance of {tolerance}")
    if not len(replay.states) == len(claim.states) == len(ways):
        raise ValueError(f"{len(claim.states)} claims for {len(replay.states)} segments")
    excuses = excuses or {}
    withheld: list[StageFault] = []
    far: list[tuple[float, StageFault]] = []
    largest = 0.0
    for rank, (claimed, replayed, way) in enumerate(
        zip(claim.states, replay.states, ways, strict=True), start=1
    ):
        if claimed is None:
            withheld.append(StageFault(rank, "the state it signed is in no file"))
            continue
        distance = tensor_distances(claimed, replayed, way, tolerance)
        if distance.value > tolerance and rank in excuses:
            words = f"{excuses[rank]}, and {_distance_words(distance)}"
            withheld.append(StageFault(rank, words))
        elif distance.value > tolerance:
            far.append((distance.value, StageFault(rank, _distance_words(distance))))
        elif not distance.moves:
            words = "its weights move less than rounding: nothing can be measured"
            withheld.append(StageFault(rank, words))
        else:
            largest = max(largest, distance.value)
    outcome = StageOutcome.TOL
    detail = (
        f"the states of {len(ways)} segments are within {tolerance:g} of the replay "
        f"(largest {largest:.2g}); equality to the bit was not tested"
    )
    if far:
        outcome, detail = (
            StageOutcome.FAIL,
            f"states are farther from the replay than {tolerance:g} of the way; compared within a "
            "tolerance, so the first segment below is suspected, not convicted",
        )
    elif withheld:
        outcome, detail = StageOutcome.OPEN, "not all segments could be measured"
    far.sort(key=lambda one: -one[0])
    return StageVerdict(
        outcome,
        detail,
        withheld=(*(fault for _, fault in far), *withheld),
        notes=tuple(notes),
        segments=len(ways),
        compared_bits=False,
    )


def tolerance_from_replays(honest: Sequence[float]) -> float:
    """Return three times the largest of at least 20 distances of honest replays."""
    if len(honest) < _FEWEST_REPLAYS or not all(math.isfinite(value) for value in honest):
        raise ValueError(f"{len(honest)} honest replays: at least {_FEWEST_REPLAYS} are needed")
    return _MARGIN * max(honest)


def _tensor_parts(name: str, tensor: Tensor, way: StageWay) -> list[tuple[str, Tensor]]:
    """Return what of a tensor is measured by itself: all, or carriers and the rest."""
    carriers = way.carriers.get(name)
    if carriers is None or carriers.shape != tensor.shape:
        return [(name, torch.ones_like(tensor, dtype=torch.bool))]
    return [(name, ~carriers), (f"{name} (mark)", carriers)]


def _part_distance(
    theirs: Tensor, mine: Tensor, chosen: Tensor, way: StageWay, name: str, tolerance: float
) -> tuple[float, bool]:
    """Return the distance of one part, and whether its way is more than rounding."""
    # Optimizers make their moments in the first step; before that they count as zero.
    start = way.start.get(name)
    before = torch.zeros_like(mine) if start is None or start.shape != mine.shape else start
    # In float64: squares of small differences vanish in float32.
    end, claimed, begun = (one[chosen].double() for one in (mine, theirs, before))
    apart = float((end - claimed).norm())
    went = float((end - begun).norm())
    rounding = math.sqrt(way.steps) * torch.finfo(mine.dtype).eps / 2 * float(end.norm())
    is_way = tolerance * went > rounding
    if apart == 0.0:
        return 0.0, is_way
    scale = max(went, rounding / tolerance)
    return (apart / scale if scale > 0.0 else math.inf), is_way


def _distance_words(distance: SegmentDistance) -> str:
    return f"{distance.name} is {distance.value:.2g} of its own way in this stage from the replay"

"""Neighbouring data sets on which sums over all samples leak most, under replace-one."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.dp_audit.worst_case_rows import NeighbouringRows

__all__ = ["SAMPLE_CLASSES", "SAMPLE_NUMBERS", "worst_case_samples"]

#: Numbers of a row and classes: as few as all worst cases need.
SAMPLE_NUMBERS: Final = 3
SAMPLE_CLASSES: Final = 2

# How far outside the unit ball a row is put: a clip that is missing or too wide shows at once.
_OUTSIDE: Final = 8.0


def worst_case_samples() -> dict[str, NeighbouringRows]:
    """Return pairs of data sets float64 [samples, 3 + 1] by name: a row, then its class.

    ``opposite rows``, ``other class``
        The two worst cases of class sums, second moment and sizes together
        (`clicooper_hpc.privacy.moments`): the sums move most, or all three move. The bound shall
        come near the claim. Of class sums alone the first is the worst case.
    ``changed label``
        The row stays.
    ``diagonal``, ``outside``
        Opposite rows spread over all coordinates, and far outside the unit ball: a clip in another
        norm, or none, shows.
    ``changed label, few mates``
        The same in a class of one other sample, of opposite row: dividing by a true count shows.
    """
    x, y, z = np.eye(SAMPLE_NUMBERS)
    spread = np.ones(SAMPLE_NUMBERS) / np.sqrt(SAMPLE_NUMBERS)
    mates = np.stack([_sample(-x, 1), *[_sample(z, 0)] * 3])
    pairs = {
        "opposite rows": (_sample(x, 0), _sample(-x, 0)),
        "other class": (_sample(x, 0), _sample(y, 1)),
        "changed label": (_sample(x, 0), _sample(x, 1)),
        "diagonal": (_sample(spread, 0), _sample(-spread, 0)),
        "outside": (_sample(_OUTSIDE * x, 0), _sample(-_OUTSIDE * x, 0)),
    }
    alone = {name: (one[np.newaxis], other[np.newaxis]) for name, (one, other) in pairs.items()}
    few = tuple(np.concatenate([one[np.newaxis], mates]) for one in pairs["changed label"])
    return {**alone, "changed label, few mates": (few[0], few[1])}


def _sample(row: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    return np.append(row, float(label))

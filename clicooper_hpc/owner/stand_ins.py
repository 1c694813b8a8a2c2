"""Public rows that stand in for private samples, to try on them what a release would be worth.

No private row is read: of the private samples only their number and that of their classes are
used, which are public. Classes that lie near each other are united, so that there are harder and
easier sets: which of them the private classes are like is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError

__all__ = ["LabelledRows", "Scene", "StandIns", "choose_stand_ins", "stand_in_sets"]

#: Of the stand-ins, held out to score on.
_HELD_OUT = 0.25
#: Rows that stay public, at most: time goes with their number.
_MOST_PUBLIC = 3000
#: Sets of stand-ins: of single classes, of unions of two, of three.
_MOST_UNITED = 3


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Rows float64 [n, p] and classes int64 [n]."""

    rows: NDArray[np.float64]
    classes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StandIns:
    """Which public rows stand in for samples, as int64 places.

    Attributes
    ----------
    train, held, public
        Places of stand-ins to release, of those to score on, and of the rows that stay public.
    classes
        Class of every row that stands in, int64; of others it is -1.
    count
        Number of stand-in classes.
    united
        Public classes in each.
    """

    train: NDArray[np.int64]
    held: NDArray[np.int64]
    public: NDArray[np.int64]
    classes: NDArray[np.int64]
    count: int
    united: int

    def scene(self, rows: NDArray[np.float64], labels: NDArray[np.int64], samples: int) -> Scene:
        """Return the stand-ins behind a front, of which ``rows`` float64 [n, p] come.

        ``samples``: private samples that they stand in for. ``labels``: public classes int64 [n].
        """
        return Scene(
            LabelledRows(rows[self.train], self.classes[self.train]),
            LabelledRows(rows[self.held], self.classes[self.held]),
            LabelledRows(rows[self.public], labels[self.public]),
            self.count,
            len(self.train) / samples,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Stand-ins behind a front, and how many samples they stand in for.

    Attributes
    ----------
    train, held, public
        Labelled rows; the classes of ``public`` are others.
    count
        Number of stand-in classes.
    share
        Stand-ins in ``train`` for each private sample.
    """

    train: LabelledRows
    held: LabelledRows
    public: LabelledRows
    count: int
    share: float

    def accuracy(self, scores: NDArray[Any]) -> float:
        """Return how many held-out rows have their class's score [n, K] as the largest."""
        return float((scores.argmax(axis=1) == self.held.classes).mean())


def choose_stand_ins(
    rows: NDArray[np.float64],
    labels: NDArray[np.int64],
    wanted: int,
    *,
    united: int,
    rng: np.random.Generator,
) -> StandIns:
    """Choose ``wanted`` classes of stand-ins, each of ``united`` public classes near each other.

    Rows that are left stay public; where they are few, half of the chosen ones do as well. With
    fewer public classes than ``wanted`` all of them stand in.

    Parameters
    ----------
    rows, labels
        Public rows behind the front, float64 [n, p], and their classes int64 [n].
    """
    names = [int(name) for name in rng.permutation(np.unique(labels))]
    means = {name: rows[labels == name].mean(axis=0) for name in names}
    count = min(wanted, len(names) // united)
    classes = np.full(len(labels), -1, dtype=np.int64)
    for place in range(count):
        first = names[0]
        near = sorted(names, key=lambda name: float(np.square(means[name] - means[first]).sum()))
        for name in near[:united]:
            classes[labels == name] = place
            names.remove(name)
    inside = rng.permutation(np.flatnonzero(classes >= 0))
    public = np.flatnonzero(classes < 0)
    if len(public) < len(inside) // 2:
        half = len(inside) // 2
        inside, public = inside[:half], np.sort(np.concatenate([inside[half:], public]))
    public = np.sort(rng.permutation(public)[:_MOST_PUBLIC])
    cut = int(len(inside) * (1 - _HELD_OUT))
    missing = count - len(np.unique(classes[inside[:cut]]))
    if missing or count < 2:
        raise DataError(
            f"{len(labels)} public rows of {len(means)} classes are too few to stand in for "
            f"{wanted} classes",
            where="front.public_data",
            remedy="Use more public rows, with labels of at least two classes.",
        )
    return StandIns(inside[:cut], inside[cut:], public, classes, count, united)


def stand_in_sets(
    rows: NDArray[np.float64], labels: NDArray[np.int64], wanted: int, *, seed: int
) -> Iterator[StandIns]:
    """Yield three sets of stand-ins, of as large unions as there are classes for.

    Parameters
    ----------
    rows, labels
        As in `choose_stand_ins`.
    """
    most = max(1, len(np.unique(labels)) // wanted)
    for number in range(_MOST_UNITED):
        rng = np.random.default_rng([seed, number])
        yield choose_stand_ins(rows, labels, wanted, united=min(number + 1, most), rng=rng)

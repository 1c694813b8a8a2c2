"""Public rows that stand in for private samples, to try on them what a release would be worth.

Of the private samples only their number and that of their classes are used, never a row. A
stand-in class is one public class, a union of several that lie near each other or, where there are
fewer public classes than private ones, a part of one: private classes may be narrow or broad, close
or far apart, and which of these they are like is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError

__all__ = ["StandIns", "choose_stand_ins", "most_united", "split_classes"]

#: Rows that stay public, at most: time goes with their number.
_MOST_PUBLIC = 4000


@dataclass(frozen=True, slots=True, eq=False)
class StandIns:
    """Which public rows stand in for samples, as int64 places.

    Attributes
    ----------
    train, held, public
        Places of stand-ins to release, of those to score on, and of the rows that stay public.
    classes
        Stand-in class of every row, int64; -1 for rows of none.
    """

    train: NDArray[np.int64]
    held: NDArray[np.int64]
    public: NDArray[np.int64]
    classes: NDArray[np.int64]


def most_united(labels: NDArray[np.int64], wanted: int) -> int:
    """Return how many public classes can make one of ``wanted``, with half of them left over."""
    return max(1, len(np.unique(labels)) // (2 * wanted))


def split_classes(
    rows: NDArray[Any], labels: NDArray[np.int64], wanted: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return classes int64 [n]: those of ``labels``, each halved until there are ``wanted``.

    A class is halved at the median along the line through two of its ``rows`` [n, p].
    """
    # Each round doubles their number; rows that are all alike cannot be told apart by any.
    for _ in range(wanted.bit_length()):
        if len(np.unique(labels)) >= wanted:
            break
        halves = 2 * labels
        for name in np.unique(labels):
            places = np.flatnonzero(labels == name)
            one, other = rows[rng.choice(places, 2, replace=len(places) < 2)]
            along = rows[places] @ (one - other)
            halves[places] += along > np.median(along)
        labels = halves
    return labels


def choose_stand_ins(
    rows: NDArray[Any],
    labels: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    *,
    wanted: int,
    united: int,
    rng: np.random.Generator,
) -> StandIns:
    """Choose ``wanted`` stand-in classes, each of ``united`` public classes near each other.

    Rows of other classes stay public; where these are fewer, half of the stand-ins do so instead.

    Parameters
    ----------
    rows, labels, held_out
        Public rows behind the front [n, p], their classes int64 [n], and which of them
        are to score on, [n].

    Raises
    ------
    DataError
        A stand-in class has no row to release, or none to score on.
    """
    names = [int(name) for name in rng.permutation(np.unique(labels))]
    means = {name: rows[labels == name].mean(axis=0) for name in names}
    classes = np.full(len(labels), -1, dtype=np.int64)
    for place in range(min(wanted, len(names) // united)):
        first = means[names[0]]
        near = sorted(names, key=lambda name: float(np.square(means[name] - first).sum()))
        for name in near[:united]:
            classes[labels == name] = place
            names.remove(name)
    held = np.flatnonzero((classes >= 0) & held_out)
    train = rng.permutation(np.flatnonzero((classes >= 0) & ~held_out))
    public = np.flatnonzero((classes < 0) & ~held_out)
    if len(public) < len(train) // 2:
        half = len(train) // 2
        train, public = train[:half], np.concatenate([train[half:], public])
    public = np.sort(rng.permutation(public)[:_MOST_PUBLIC])
    covered = [len(np.unique(classes[part])) for part in (train, held)]
    if covered != [wanted, wanted]:
        raise DataError(
            f"{len(labels)} public rows of {len(means)} classes are too few to stand in for "
            f"{wanted} classes",
            where="front.public_data",
            remedy="Use more public rows, of more classes.",
        )
    return StandIns(train, held, public, classes)

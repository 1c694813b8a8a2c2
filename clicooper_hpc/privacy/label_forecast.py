"""Simulation of what a label map will hide and cost, before a run.

The released rows of a class are taken as Gaussian around the class's mean, in coordinates where
noise and spread within a class have unit variance together. Such rows are drawn and named by the
method, and an attacker groups the mean rows of the names. The price is a calibrated formula.

How far the classes lie apart is not known before the run: `forecast_signal` gives what the public
fronts showed on CIFAR-10, which is an assumption for other data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LabelForecast",
    "ReleasedRows",
    "Signal",
    "forecast_fewest_names",
    "forecast_labels",
    "forecast_signal",
]

# Numbers a row of the simulation: an attacker with public rows knows where to look, and further
# numbers hold noise.
_WIDTH = 64
# Calibration of the price, see `_price`.
_RANDOM_POINTS, _WEAK = 0.25, 0.12
_ANCHOR_POINTS = 15.0
#: What `forecast_fewest_names` looks for, and the rows a name it keeps.
_HIDDEN, _FEWEST_ROWS = 0.05, 4
_GAMMAS = (2, 5, 10, 20, 50, 100, 200, 400, 800)


@dataclass(frozen=True, slots=True)
class Signal:
    """How classes lie in clean released rows, in the units of the released numbers.

    Parameters
    ----------
    separation
        Root mean square distance of the class means from their mean.
    within
        Standard deviation within a class along one direction that tells classes apart.
    """

    separation: float
    within: float


@dataclass(frozen=True, slots=True)
class ReleasedRows:
    """The rows that are given names.

    Parameters
    ----------
    signal
        How classes lie in clean rows.
    sigma
        Standard deviation of the noise of each released number; 0 with privacy off.
    dimension
        Numbers a released row.
    count, classes
        Training samples, and K.
    """

    signal: Signal
    sigma: float
    dimension: int
    count: int
    classes: int


@dataclass(frozen=True, slots=True)
class LabelForecast:
    """Forecast of a label map.

    Parameters
    ----------
    leak
        Adjusted Rand index of the attacker's grouping of the names into classes.
    leak_known
        The same of an attacker who knows the class means beforehand.
    price
        Owner's accuracy without names less that with them, in points of a hundred.
    rows_per_name
        Samples of an average name.
    """

    leak: float
    leak_known: float
    price: float
    rows_per_name: float


def forecast_signal(
    unit: str, clip: float, dimension: int, *, discriminant: bool = False
) -> Signal:
    """Return the signal of the public convolution front on CIFAR-10.

    Scores of classes (``discriminant``): class means 0.64 C from their mean, standard deviation
    0.61 C / sqrt(d) within a class. Else sample and metric: 32 principal numbers
    scaled to the norm C, class means 0.42 C from their mean, standard deviation 0.88 C / sqrt(d).
    Element: 192 x 8 x 8 maps, 0.024 c sqrt(d) and 0.011 c sqrt(d) (docs/label-map.md).
    """
    root = math.sqrt(dimension)
    if unit == "element":
        return Signal(0.024 * clip * root, 0.011 * clip * root)
    if discriminant:
        return Signal(0.64 * clip, 0.61 * clip / root)
    return Signal(0.42 * clip, 0.88 * clip / root)


def forecast_labels(
    method: Literal["none", "random", "anchors"],
    released: ReleasedRows,
    expansion: int,
    seed: int = 0,
) -> LabelForecast:
    """Simulate a label map.

    Parameters
    ----------
    method, expansion
        As in the job.
    seed
        Of the simulation.

    Raises
    ------
    ValueError
        Without two classes, or without rows for every name.
    """
    signal, sigma, dimension = released.signal, released.sigma, released.dimension
    rows, classes = released.count, released.classes
    names = classes * expansion
    if classes < 2 or rows < names:
        raise ValueError(f"{rows} rows are no basis for {expansion} names of {classes} classes")
    rng = np.random.default_rng(seed)
    axes = max(1, min(classes - 1, dimension))
    width = max(axes, min(dimension, _WIDTH))
    unit = math.sqrt(sigma**2 + signal.within**2)
    means = np.zeros((classes, width))
    means[:, :axes] = rng.normal(size=(classes, axes)) * signal.separation / unit / math.sqrt(axes)
    # The mean of all rows tells nothing of a class.
    means -= means.mean(axis=0)
    labels = np.arange(rows) % classes
    # Noise and spread within a class have unit variance together in these coordinates.
    points = means[labels] + rng.normal(size=(rows, width))
    if method == "random":
        which = rng.integers(expansion, size=rows)
    elif method == "anchors":
        which = _nearest_own(points[:, :axes], labels, classes, expansion, rng)
    else:
        which = np.zeros(rows, dtype=np.int64)
        expansion, names = 1, classes
    named = labels * expansion + which
    centres, sizes = _centres(points, named, names)
    # Names without a sample are seen by nobody, so they are no part of a grouping.
    used = sizes > 0
    truth = np.arange(names) // expansion
    return LabelForecast(
        leak=_leak(centres[used], truth[used], classes, axes, seed),
        leak_known=_leak_known(centres[used, :axes], means[:, :axes], truth[used]),
        price=_price(method, (signal.separation / unit) ** 2, expansion),
        rows_per_name=rows / names,
    )


def forecast_fewest_names(
    released: ReleasedRows, seed: int = 0
) -> tuple[int, LabelForecast] | None:
    """Return the smallest gamma of a ``random`` map that hides, with its forecast; None for none.

    To hide is an ARI of at most 0.05 for an attacker who knows the class means, at 4 rows a name or
    more.
    """
    for gamma in _GAMMAS:
        if released.count < _FEWEST_ROWS * released.classes * gamma:
            break
        found = forecast_labels("random", released, gamma, seed)
        if max(found.leak, found.leak_known) <= _HIDDEN:
            return gamma, found
    return None


def _price(method: str, energy: float, expansion: int) -> float:
    """Return points of accuracy, a fit to docs/label-map.md (CIFAR-10, 18,000 rows).

    Random names cost 0.25 points for each doubling of gamma where a row says little of its class
    (``energy``, the squared separation in units of the spread, 0.12 or less), and less in
    proportion where it says more; anchors, cells of noisy rows then, 15 points, and less likewise.
    Good to about two points; networks and their training differ by more.
    """
    strict = min(1.0, _WEAK / max(energy, 1e-12))
    if method == "random":
        return _RANDOM_POINTS * math.log2(expansion) * strict
    return _ANCHOR_POINTS * strict if method == "anchors" and expansion > 1 else 0.0


def _nearest_own(
    places: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: int,
    expansion: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    which = np.zeros(len(labels), dtype=np.int64)
    for number in range(classes):
        mine = labels == number
        anchors = places[rng.permutation(len(places))[:expansion]]
        scores = np.sum(anchors**2, axis=1) - 2 * places[mine] @ anchors.T
        which[mine] = np.argmin(scores, axis=1)
    return which


def _centres(
    points: NDArray[np.float64], labels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sizes = np.bincount(labels, minlength=count)
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, labels, points)
    return sums / np.maximum(sizes, 1)[:, None], sizes


def _leak(
    centres: NDArray[np.float64], truth: NDArray[np.int64], classes: int, axes: int, seed: int
) -> float:
    """Return the best of k-means and Ward on mean rows, in their strongest directions."""
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.metrics import adjusted_rand_score

    centred = centres - centres.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    few = centred @ directions[:axes].T
    groups = min(classes, len(few))
    found = [
        KMeans(groups, n_init=5, random_state=seed).fit_predict(few),
        AgglomerativeClustering(groups).fit_predict(few),
    ]
    return max(float(adjusted_rand_score(truth, each)) for each in found)


def _leak_known(
    centres: NDArray[np.float64], means: NDArray[np.float64], truth: NDArray[np.int64]
) -> float:
    from sklearn.metrics import adjusted_rand_score

    distances = np.sum(means**2, axis=1) - 2 * centres @ means.T
    return float(adjusted_rand_score(truth, np.argmin(distances, axis=1)))

"""Scaling of values before a front: by constants of the job, or by statistics of its public data.

Never by statistics of the private rows: a row would depend on the others, and the guarantee of the
release would not hold for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.config.data_section import Constants
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet, open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.data.value_statistics import ValueMoments, ValueStatistics
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.affine import Affine

__all__ = ["ValueScaling", "data_doubts", "job_scaling", "public_statistics"]

_BLOCK = 1024
#: Constants are those of the private rows if they agree to this part of a deviation.
_AGREE = 1e-4


@dataclass(frozen=True, slots=True)
class ValueScaling:
    """The operation that scales, and what is said of it.

    Attributes
    ----------
    affine
        Its constants.
    centred
        By mean and deviation, so that values lie around 0; else minimum and maximum become 0 and 1.
    text
        In words.
    """

    affine: Affine
    centred: bool
    text: str


def job_scaling(job: Job, data: DataSet, rows: Split) -> ValueScaling | None:
    """Return how the job scales values of rows like ``rows``; None if it does not.

    ``data``: the data set whose columns give the features their names.

    Raises
    ------
    UsageError, DataError
        Constants are missing, name no feature or leave one out; the public data have other
        features.
    """
    section = job.data
    if section.scaling == "none":
        return None
    features = rows.input_shape[0]
    fixed = _indicators(data, features)
    if section.scaling == "public":
        found = _public_statistics(job, data, features)
        # One that never varies in public has no deviation to divide by: it stays as it is.
        fixed = fixed | (found.deviation <= 0)
        return _scaling(found.mean, found.deviation, fixed, centred=True, text="public statistics")
    stated = section.constants
    centred = stated.mean is not None
    pair = (stated.mean, stated.deviation) if centred else (stated.minimum, stated.maximum)
    names = ("mean", "deviation") if centred else ("minimum", "maximum")
    low, high = (
        _by_feature(given, name, data, features, fixed)
        for given, name in zip(pair, names, strict=True)
    )
    width = high if centred else high - low
    flat = np.flatnonzero((width <= 0) & ~fixed)
    if len(flat):
        raise UsageError(
            f"feature {_feature_name(data, int(flat[0]))}: "
            + (
                "the deviation is not above 0"
                if centred
                else "the maximum is not above the minimum"
            ),
            where=f"data.constants.{names[1]}",
        )
    with np.errstate(over="ignore", divide="ignore"):
        extreme = np.abs(np.stack([low, width, 1 / np.where(fixed, 1.0, width)]))
    beyond = np.flatnonzero((extreme > np.finfo(np.float32).max).any(axis=0) & ~fixed)
    if len(beyond):
        raise UsageError(
            f"feature {_feature_name(data, int(beyond[0]))}: a number that float32 cannot hold, "
            "or that no value can be divided by",
            where="data.constants",
            remedy="Give constants between 1e-38 and 3e38, in size.",
        )
    return _scaling(low, width, fixed, centred=centred, text=f"stated {names[0]} and {names[1]}")


def data_doubts(job: Job, data: DataSet) -> tuple[str, ...]:
    """Return why rows, as features before any front, depend on other private rows.

    Raises
    ------
    UsageError
        They do, and the front charges samples as if they did not.
    """
    doubts = [] if data.table is None else data.table.dependences()
    if data.statistics is not None and job.data.scaling == "constants":
        doubts += _copied_constants(job, data, data.statistics)
    if doubts and (job.front.kind == "dp-sgd" or job.front.projection == "private-lda"):
        raise UsageError(
            f"a private front needs rows that depend on no other row, but {doubts[0]}",
            where="front",
            remedy="State categories, fill values and constants when the table is imported and in "
            "the job, or use a public front.",
        )
    return tuple(doubts)


def public_statistics(split: Split) -> ValueStatistics:
    """Return the statistics of all rows of a split, by feature or channel."""
    moments = ValueMoments()
    for start in range(0, len(split), _BLOCK):
        rows = split.read(np.arange(start, min(start + _BLOCK, len(split))))
        moments.add_stored_rows(rows.transpose(0, 2, 3, 1) if rows.ndim == 4 else rows)
    found = moments.value_statistics()
    if found is None:
        raise DataError("has no rows", where=split.name)
    return found


def _public_statistics(job: Job, data: DataSet, features: int) -> ValueStatistics:
    if job.front.public_data is None:
        raise UsageError(
            'data.scaling = "public" needs front.public_data', where="front.public_data"
        )
    with open_dataset(job.front.public_data) as public:
        split = public.split("train")
        if split.input_shape[0] != features or _names(public) != _names(data):
            raise DataError(
                f"has other features than {data.source}",
                where=public.source,
                remedy="Import both tables with the same columns and categories",
            )
        rows = min(job.front.public_rows or len(split), len(split))
        return public_statistics(split.subset(range(rows)))


def _scaling(
    offset: NDArray[np.float64],
    width: NDArray[np.float64],
    fixed: NDArray[np.bool_],
    *,
    centred: bool,
    text: str,
) -> ValueScaling:
    safe = np.where(fixed, 1.0, width)
    affine = Affine(torch.from_numpy(np.where(fixed, 0.0, offset)), torch.from_numpy(1.0 / safe))
    return ValueScaling(affine, centred, f"values scaled by {text}")


def _by_feature(
    given: Constants | None,
    name: str,
    data: DataSet,
    features: int,
    fixed: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return one number a feature."""
    where = f"data.constants.{name}"
    if isinstance(given, Mapping):
        return _by_name(given, where, data, fixed)
    numbers = np.asarray(given, dtype=np.float64)
    if numbers.ndim and len(numbers) != features:
        raise UsageError(
            f"has {len(numbers)} numbers, rows have {features} features or channels",
            where=where,
            remedy="Give one number for all, one for each in order, or a table by name",
        )
    return np.broadcast_to(numbers, (features,)).copy()


def _by_name(
    given: Mapping[str, float], where: str, data: DataSet, fixed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    names = _names(data)
    if not names:
        raise UsageError(
            f"names features, {data.source} has no names of any",
            where=where,
            remedy="Give one number for all, or one for each in order",
        )
    unknown = sorted(set(given) - set(names))
    needed = [name for name, stays in zip(names, fixed, strict=True) if not stays]
    missing = [name for name in needed if name not in given]
    if unknown or missing:
        what = f"names no feature {unknown[0]!r}" if unknown else f"leaves out {missing[0]!r}"
        more = len(unknown or missing) - 1
        raise UsageError(
            what + (f" and {more} more" if more else ""),
            where=where,
            remedy=f"Give all features of {data.source} (those that are 0 or 1 may be left out)",
        )
    return np.asarray([given.get(name, 0.0) for name in names], dtype=np.float64)


def _copied_constants(job: Job, data: DataSet, own: ValueStatistics) -> list[str]:
    """Return that the constants are those of the private rows, if they are."""
    features = len(own.mean)
    fixed = _indicators(data, features)
    found = []
    for name in ("mean", "deviation", "minimum", "maximum"):
        given = getattr(job.data.constants, name)
        if given is None:
            continue
        stated, actual = _by_feature(given, name, data, features, fixed), getattr(own, name)
        same = np.abs(stated - actual) <= _AGREE * np.maximum(own.deviation, 1e-30)
        # Bounds such as 0 and 255 are nobody's secret, and the data may well reach them.
        telling = ~fixed & (stated != np.round(stated)) & (own.deviation > 0)
        if (same & telling).sum() > telling.sum() / 2:
            found.append(name)
    if not found:
        return []
    return [f"data.constants ({', '.join(found)}) are those of the training rows themselves"]


def _indicators(data: DataSet, features: int) -> NDArray[np.bool_]:
    """Return which features are 0 or 1 by construction, and stay so."""
    if data.table is None:
        return np.zeros(features, dtype=np.bool_)
    return np.asarray(data.table.indicators, dtype=np.bool_)


def _names(data: DataSet) -> tuple[str, ...]:
    return () if data.table is None else data.table.feature_names


def _feature_name(data: DataSet, number: int) -> str:
    return repr(_names(data)[number]) if _names(data) else str(number)

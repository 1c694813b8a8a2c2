"""What a front and the clip do to the values of training samples: what would be cut, in words.

Looked at in some of the samples, before anything leaves. The figures are statistics of private
data: they are told to the owner alone, and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.affine import Affine
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Clamp, Operation, Resize
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee

__all__ = ["ValueRemark", "check_values"]

#: Samples that are looked at; behind a network, which takes its time, so many.
_MOST_ROWS, _BEHIND_NETWORK = 2048, 64
#: Numbers that are held at a time.
_MOST_NUMBERS = 2**24
#: Features that are named.
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class ValueRemark:
    """A sentence; whether values are cut, or expected where they are not."""

    text: str
    cut: bool


def check_values(job: Job, data: DataSet, train: Split, front: Front | None) -> list[ValueRemark]:
    """Return what happens to values of ``train`` in the operations of ``front`` and in the clip.

    ``front``: the base where the rest is not made yet; None where not even that is there.
    """
    if front is None:
        return []
    heavy = any(isinstance(operation, Network) for operation in front.operations)
    most = max(1, min(_MOST_ROWS, _MOST_NUMBERS // int(np.prod(train.input_shape))))
    rows = train.read(_spread(len(train), most))
    remarks = _range_remarks(front.operations, rows, data)
    whole = job.front.projection == "none" or front.origin.projection is not None
    # A norm that rows are scaled to, the front's own rule, is that of the clip.
    whole = whole and not job.front.normalise
    if whole and job.release.mode == "rows" and job.privacy.enabled:
        some = rows[_spread(len(rows), _BEHIND_NETWORK)] if heavy else rows
        remarks.append(_clip_remark(job, front, some))
    return remarks


def _spread(count: int, most: int) -> NDArray[np.int64]:
    # Over all of them: files are often sorted by class.
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _range_remarks(
    operations: Sequence[Operation], rows: NDArray[np.float32], data: DataSet
) -> list[ValueRemark]:
    """Return whether numbers lie outside [0, 1] where an operation cuts or expects them."""
    values, rest, scaled = torch.from_numpy(rows), list(operations), ""
    if rest and isinstance(rest[0], Affine):
        values, scaled = rest.pop(0).apply(values), "scaled "
    cuts = bool(rest) and isinstance(rest[0], Clamp)
    if not cuts and not any(isinstance(one, Network | Resize) for one in rest[:2]):
        return []
    found = values.numpy()
    outside = (found < 0) | (found > 1)
    share = float(outside.mean())
    what = f"{len(rows):,} training samples looked at"
    if not share:
        return [ValueRemark(f"values: all {scaled}numbers of {what} lie in [0, 1]", cut=False)]
    does = "and the front cuts them there" if cuts else "where the front's network expects them"
    named = _worst_features(found, outside, data)
    return [
        ValueRemark(
            f"values: {_percent(share)} of the {scaled}numbers of {what} lie outside [0, 1], "
            f"{does} ({named}); state data.scaling",
            cut=True,
        )
    ]


def _worst_features(values: NDArray[np.float32], outside: NDArray[np.bool_], data: DataSet) -> str:
    """Return the features, or channels, of which most lies outside, with their ranges."""
    axes = (0, *range(2, values.ndim))
    shares = outside.mean(axis=axes)
    low, high = values.min(axis=axes), values.max(axis=axes)
    order = np.argsort(-shares, kind="stable")[: min(_MOST_NAMED, int((shares > 0).sum()))]
    names = data.table.feature_names if data.table is not None else None
    kind = "channel" if values.ndim > 2 else "feature"
    shown = [
        f"{repr(names[number]) if names else f'{kind} {number}'}: {low[number]:.4g} to "
        f"{high[number]:.4g}"
        for number in order.tolist()
    ]
    more = int((shares > 0).sum()) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _clip_remark(job: Job, front: Front, rows: NDArray[np.float32]) -> ValueRemark:
    """Return how many rows behind the front the clip of the release would change."""
    made = front.apply(rows).reshape(len(rows), -1).astype(np.float64)
    promise = mechanism_guarantee(job, front.output_shape, non_negative=front.non_negative)
    clip = promise.clip
    if promise.unit == "element":
        lowest = 0.0 if promise.non_negative else -clip
        share = float(((made < lowest) | (made > clip)).mean())
        text = f"numbers of rows lie outside [{lowest:g}, {clip:g}] and are cut there"
    else:
        lengths = np.sqrt(np.square(made).sum(axis=1))
        # Scaled to the very bound, rounding may leave them a little longer.
        share = float((lengths > clip * (1 + 1e-6)).mean())
        text = (
            f"rows are longer than privacy.clip = {clip:g} and are shortened to it (median length "
            f"{np.median(lengths):.3g})"
        )
    return ValueRemark(f"clip: {_percent(share)} of the {text}", cut=share > 0)


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    return f"{100 * share:.1f} %"

"""What a data set's file says of its features: names, statistics, and how a table became them.

::

    /features/name       (D,) fixed-length UTF-8 strings; of tables
    /features/minimum    (F,) float64, of the training rows as fronts take them; F = D features,
    /features/maximum         or C channels of images
    /features/mean
    /features/deviation
    /features/mapping    one JSON text (`TableMapping`); of tables

All of it is optional, and private like the rows: it is computed from them.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from clicooper_hpc.data.h5_format import refuse_h5_link
from clicooper_hpc.data.tables.table_mapping import MOST_BYTES, TableMapping
from clicooper_hpc.data.value_statistics import ValueStatistics
from clicooper_hpc.errors import DataError

__all__ = ["read_h5_mapping", "read_h5_statistics", "write_h5_features"]

_GROUP = "features"
_FIGURES = ("minimum", "maximum", "mean", "deviation")


def write_h5_features(
    file: h5py.File, statistics: ValueStatistics, mapping: TableMapping | None
) -> None:
    """Write the group; ``mapping`` is None for data that were no table."""
    group = file.create_group(_GROUP)
    for figure in _FIGURES:
        dataset = group.create_dataset(figure, data=getattr(statistics, figure))
        dataset.attrs["units"] = np.bytes_("1")
        dataset.attrs["long_name"] = np.bytes_(f"{figure} over the training rows")
    if mapping is None:
        return
    names = [name.encode("utf-8") for name in mapping.feature_names]
    for key, value, long_name in (
        ("name", names, "name of the feature"),
        ("mapping", mapping.to_json().encode("utf-8"), "how columns became features"),
    ):
        width = max(map(len, value)) if isinstance(value, list) else len(value)
        texts = np.asarray(value, dtype=h5py.string_dtype("utf-8", max(1, width)))
        dataset = group.create_dataset(key, data=texts)
        dataset.attrs["units"] = np.bytes_("1")
        dataset.attrs["long_name"] = np.bytes_(long_name)


def read_h5_statistics(file: h5py.File, features: int, source: str) -> ValueStatistics | None:
    """Return the statistics of ``features`` features or channels; None where there are none.

    Raises
    ------
    DataError
        They are not of that shape, or not numbers.
    """
    group = _features_group(file, source)
    if group is None or _FIGURES[0] not in group:
        return None
    figures: dict[str, Any] = {}
    for figure in _FIGURES:
        where = f"{source}:/{_GROUP}/{figure}"
        dataset = _own_array(group, figure, source)
        if dataset is None or dataset.shape != (features,) or dataset.dtype.kind != "f":
            raise DataError(f"is no float of shape ({features},)", where=where)
        figures[figure] = dataset[()].astype(np.float64)
        if not np.isfinite(figures[figure]).all():
            raise DataError("holds a value that is not finite", where=where)
    return ValueStatistics(**figures)


def read_h5_mapping(file: h5py.File, features: int, source: str) -> TableMapping | None:
    """Return how a table became vectors of ``features`` features; None where it was no table.

    Raises
    ------
    DataError
        It is damaged, or of another number of features.
    """
    group = _features_group(file, source)
    if group is None or "mapping" not in group:
        return None
    where = f"{source}:/{_GROUP}/mapping"
    dataset = _own_array(group, "mapping", source)
    if (
        dataset is None
        or dataset.shape != ()
        or dataset.dtype.kind != "S"
        or dataset.dtype.itemsize > MOST_BYTES
    ):
        raise DataError("is no text", where=where, remedy="Import the table again")
    text = bytes(dataset[()]).decode("utf-8", "replace")
    mapping = TableMapping.from_json(text, where)
    if len(mapping.feature_names) != features:
        raise DataError(
            f"makes {len(mapping.feature_names)} features, rows have {features}",
            where=where,
            remedy="Import the table again",
        )
    return mapping


def _features_group(file: h5py.File, source: str) -> h5py.Group | None:
    if _GROUP not in file:
        return None
    refuse_h5_link(file, _GROUP, source)
    group = file[_GROUP]
    if not isinstance(group, h5py.Group):
        raise DataError("is not a group", where=f"{source}:/{_GROUP}")
    return group


def _own_array(group: h5py.Group, name: str, source: str) -> h5py.Dataset | None:
    refuse_h5_link(group, name, f"{source}:/{_GROUP}")
    found = group.get(name)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external is not None:
        return None
    return found

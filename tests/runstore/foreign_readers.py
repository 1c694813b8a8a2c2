"""What another program reads of an HDF5 file, as JSON: ``foreign_readers.py READER FILE``.

A program of its own, because such a reader may end its process. For every dataset and attribute:
its shape and a digest of its values, as float64, as int64 or as texts.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import numpy as np

#: Attributes that make up scales, and that readers show in their own ways.
HIDDEN = {"DIMENSION_LABELS", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME", "_Encoding"}


def plain_values(values: Any) -> list[Any]:
    """Return shape and digest of values of any reader."""
    array = np.asarray(values)
    if array.dtype.kind in "SUO":
        texts = [
            one.decode() if isinstance(one, bytes) else str(one) for one in array.ravel().tolist()
        ]
        raw = "\0".join(text.rstrip("\0") for text in texts).encode()
    else:
        whole = array.dtype.kind in "biu"
        numbers = array.astype("<i8" if whole else "<f8")
        if not whole:
            numbers[np.isnan(numbers)] = np.nan
        raw = numbers.tobytes()
    return [list(array.shape), hashlib.sha256(raw).hexdigest()]


def read_h5py(path: str) -> dict[str, Any]:
    """Everything, with texts put together along their axis of characters."""
    import h5py

    found: dict[str, Any] = {}

    def add(place: str, item: Any) -> None:
        for name, value in item.attrs.items():
            if name not in HIDDEN and not place.rsplit("/", 1)[-1].startswith("string"):
                found[f"{place}@{name}"] = plain_values(value)
        if isinstance(item, h5py.Dataset):
            if not item.name.rsplit("/", 1)[-1].startswith("string"):
                value = item[()]
                if item.ndim and item.dtype.kind == "S":
                    value = np.ascontiguousarray(value).view(f"S{value.shape[-1]}")[..., 0]
                found[place] = plain_values(value)
        else:
            # Links too, within the file.
            for name in item:
                add(f"{place.rstrip('/')}/{name}", item[name])

    with h5py.File(path, "r") as file:
        add("/", file)
    return found


def read_netcdf4(path: str) -> dict[str, Any]:
    """By netCDF-C."""
    import netCDF4

    found: dict[str, Any] = {}

    def add(place: str, item: Any) -> None:
        for name in item.ncattrs():
            if name not in HIDDEN:
                found[f"{place}@{name}"] = plain_values(item.getncattr(name))
        if not isinstance(item, netCDF4.Dataset):
            return
        for name, variable in item.variables.items():
            variable.set_auto_mask(False)
            found[f"{place.rstrip('/')}/{name}"] = plain_values(variable[...])
            add(f"{place.rstrip('/')}/{name}", variable)
        for name, group in item.groups.items():
            add(f"{place.rstrip('/')}/{name}", group)

    with netCDF4.Dataset(path) as file:
        add("/", file)
    return found


def _read_tree(path: str, engine: str) -> dict[str, Any]:
    import xarray as xr

    found: dict[str, Any] = {}
    with xr.open_datatree(path, engine=engine) as tree:
        for node in tree.subtree:
            place = node.path.rstrip("/")
            dataset = node.to_dataset(inherit=False)
            for name, value in dataset.attrs.items():
                found[f"{node.path}@{name}"] = plain_values(value)
            for name, variable in dataset.variables.items():
                found[f"{place}/{name}"] = plain_values(variable.values)
                for key, value in variable.attrs.items():
                    if key not in HIDDEN:
                        found[f"{place}/{name}@{key}"] = plain_values(value)
    # The same group by group, which opens each as a data set of its own. A tree has coordinates
    # that equal those of the group above once: `/metrics/rank` is shown here alone.
    for group in ("metrics", "steps"):
        if any(name.startswith(f"/{group}/") for name in found):
            with xr.open_dataset(path, engine=engine, group=group) as dataset:
                for name, variable in dataset.variables.items():
                    found[f"/{group}/{name}"] = plain_values(variable.values)
                    for key, value in variable.attrs.items():
                        if key not in HIDDEN:
                            found[f"/{group}/{name}@{key}"] = plain_values(value)
    return found


def read_xarray_netcdf4(path: str) -> dict[str, Any]:
    """By xarray through netCDF-C."""
    return _read_tree(path, "netcdf4")


def read_xarray_h5netcdf(path: str) -> dict[str, Any]:
    """By xarray through h5netcdf."""
    return _read_tree(path, "h5netcdf")


def read_silx(path: str) -> dict[str, Any]:
    """What silx plots when it opens the file."""
    import h5py
    from silx.io import nxdata

    with h5py.File(path, "r") as file:
        plotted = nxdata.get_default(file)
        if plotted is None:
            return {}
        group = plotted.group
        names = (group.attrs["signal"].decode(), group.attrs["auxiliary_signals"].decode())
        curves = (plotted.signal, *plotted.auxiliary_signals)
        found = {
            f"{group.name}/{name}": plain_values(curve[()])
            for name, curve in zip(names, curves, strict=True)
        }
        found[f"{group.name}/step"] = plain_values(plotted.axes[0][()])
        return found


if __name__ == "__main__":
    reader, place = sys.argv[1:]
    print(json.dumps(globals()[f"read_{reader}"](place)))

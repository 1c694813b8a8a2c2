"""`ViewScales`: dimension scales of virtual datasets, attached without opening their sources.

HDF5's own calls ask a dataset for its space, and of a view that grows this opens every source by
its name: in the folder of the file, and in the working directory, whatever lies there. So the
attributes that those calls would make are written here, as the specification of dimension scales
says them.
"""

from __future__ import annotations

from typing import Any, Final

import h5py
import numpy as np

__all__ = ["ViewScales"]

#: As in C: the reference, the axis, and what aligns the next one.
_USER: Final = np.dtype(
    {
        "names": ["dataset", "dimension"],
        "formats": [h5py.ref_dtype, np.dtype("i4")],
        "offsets": [0, 8],
        "itemsize": 16,
    }
)


class ViewScales:
    """Names the axes of the views of one file; `write` at the end tells the scales."""

    def __init__(self) -> None:
        self._users: dict[str, tuple[Any, list[tuple[Any, int]]]] = {}

    def name_axes(self, view: Any, *scales: Any) -> None:
        """Make ``scales[i]`` the scale of axis i of ``view``, and its name the label."""
        lists = np.empty(len(scales), h5py.vlen_dtype(h5py.ref_dtype))
        for axis, scale in enumerate(scales):
            lists[axis] = np.array([scale.ref], h5py.ref_dtype)
            self._users.setdefault(scale.name, (scale, []))[1].append((view.ref, axis))
        labels = [scale.name.rsplit("/", 1)[-1] for scale in scales]
        view.attrs.create("DIMENSION_LABELS", labels, dtype=h5py.string_dtype("ascii"))
        view.attrs.create("DIMENSION_LIST", lists, dtype=lists.dtype)

    def write(self) -> None:
        """Write into every scale who uses it, after those who did so before."""
        for scale, users in self._users.values():
            before = scale.attrs.get("REFERENCE_LIST", ())
            known = [(one["dataset"], int(one["dimension"])) for one in before]
            scale.attrs.create("REFERENCE_LIST", np.array(known + users, _USER))
        self._users.clear()

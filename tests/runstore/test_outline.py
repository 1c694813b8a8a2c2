"""The outline of an HDF5 file says the same of what is the same, whichever version stored it."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
import pytest

from clicooper_hpc.runstore.hdf5.outline import hdf5_outline, outline_differences

EXTENT = 4


def view_outline(
    count: int, block: int, start: int = 0, shape: Sequence[int] = (EXTENT,)
) -> dict[str, str]:
    """Outline of a file with a view of ``count`` adjoining blocks of ``block`` rows."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file.create_dataset("source", data=np.arange(8.0))
        source = h5py.h5s.create_simple((8,))
        source.select_hyperslab((start,), (count,), (block,), (block,))
        target = h5py.h5s.create_simple(tuple(shape))
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_virtual(target, b".", b"/source", source)
        h5py.h5d.create(file.id, b"view", h5py.h5t.NATIVE_DOUBLE, target, dcpl=plan)
        return hdf5_outline(file)


def test_one_block_of_four_and_four_blocks_of_one_are_the_same_rows() -> None:
    assert view_outline(1, 4) == view_outline(4, 1) == view_outline(2, 2)


@pytest.mark.parametrize("other", [view_outline(1, 4, start=1), view_outline(4, 1, start=4)])
def test_other_rows_are_another_view(other: dict[str, str]) -> None:
    assert other["/view"] != view_outline(1, 4)["/view"]


def test_a_difference_far_behind_is_shown_without_what_both_begin_with() -> None:
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file.create_dataset("rows", (3, 4), "f4", maxshape=(5, 600_000), fillvalue=1.5)
        outline = hdf5_outline(file)
        assert outline_differences(file, outline) == []
        due = outline["/rows"].replace("1.5", "2.5")
        (difference,) = outline_differences(file, outline | {"/rows": due})
        assert difference == "/rows is ... 1.5, must be ... 2.5"

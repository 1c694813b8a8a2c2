"""Clean rows: what the front makes of samples, clipped as the released rows were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.owner.clean_rows import CleanRows, RowClip
from clicooper_hpc.privacy.clipping import clip_rows
from clicooper_hpc.privacy.sensitivity import Guarantee, Unit


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("unit", ["sample", "element"])
def test_rows_are_clipped_as_the_released_ones_were(unit: Unit, non_negative: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 24)).astype(np.float32)
    rows[:20] *= np.float32(1e30)
    rows[20:40] *= np.float32(1e-30)
    rows[40:50] = 0
    guarantee = Guarantee(unit, "replace-one", 0.75, 24, 2.0, 1e-5, non_negative)
    clean = RowClip(guarantee)(torch.from_numpy(rows.reshape(200, 2, 3, 4)))
    assert clean.dtype == torch.float32
    assert clean.reshape(200, 24).numpy() == pytest.approx(clip_rows(rows, guarantee), rel=1e-6)


def test_rows_of_another_shape_name_both() -> None:
    front = build_front(FrontBase("identity", (2, 3)))
    rows = CleanRows(front, None)
    with pytest.raises(DataError, match=r"float32 \[6\], the model takes float32 \[2, 3\]"):
        rows(torch.zeros(4, 6))
    with pytest.raises(DataError, match=r"float64 \[2, 3\], the model takes float32"):
        rows(torch.zeros(4, 2, 3, dtype=torch.float64))

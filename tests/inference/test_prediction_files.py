"""Files of predictions: what is beside them stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.inference.prediction_files import open_prediction_file

ONE = np.array([1]), np.array([[0.25, 0.75]], np.float32)


@pytest.mark.parametrize("ending", ["csv", "h5", "npz"])
def test_a_part_of_somebody_else_s_stays(ending: str, tmp_path: Path) -> None:
    out, theirs = tmp_path / f"out.{ending}", tmp_path / f"out.{ending}.part"
    theirs.write_text("a download")
    with open_prediction_file(out, ("a", "b"), None, overwrite=False) as file:
        file.append_predictions(*ONE)
    assert out.stat().st_size
    with (
        pytest.raises(DataError),
        open_prediction_file(out, ("a", "b"), None, overwrite=True) as file,
    ):
        raise DataError("no more samples")
    assert sorted(tmp_path.iterdir()) == [out, theirs]
    assert theirs.read_text() == "a download"


@pytest.mark.parametrize("ending", ["csv", "h5", "npz", "parquet"])
def test_a_missing_folder_is_named_for_every_ending(ending: str, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / f"out.{ending}"
    with (
        pytest.raises(UsageError, match="nowhere: no such folder"),
        open_prediction_file(out, ("a", "b"), None, overwrite=False),
    ):
        pass

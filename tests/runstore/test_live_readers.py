"""Readers of an HDF5 file whose writer starts, ends or replaces it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from clicooper_hpc.runstore.hdf5 import reader
from clicooper_hpc.runstore.hdf5.files import create_hdf5_file
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.regular_files import open_regular_file


@pytest.mark.parametrize(
    "turn",
    [
        "with create_hdf5_file(path, start=path) as file:\n        file.attrs['turn'] = turn\n",
        "file = open_swmr_file(path); file['rows'].resize((1000 + turn,)); file.close()\n",
    ],
    ids=["replaced", "reopened"],
)
def test_a_file_that_its_writer_touches_meanwhile_is_never_called_damaged(
    tmp_path: Path, turn: str
) -> None:
    # What starts and ends of a run do to `run.h5` and to shards while somebody watches.
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver="v110") as file:
        file.create_dataset("rows", data=np.arange(1000), maxshape=(None,), chunks=(100,))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from clicooper_hpc.runstore.hdf5.files import create_hdf5_file, open_swmr_file\n"
        "path = Path(sys.argv[1])\n"
        f"for turn in range(1000):\n    {turn}"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        while writer.poll() is None:
            assert read_hdf5_file(path, lambda file: int(file["rows"][5])) == 5
    assert writer.returncode == 0


def test_a_file_replaced_between_two_looks_at_it_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.h5"
    with create_hdf5_file(path) as file:
        file.attrs["turn"] = 0
    turns = iter([1])

    def opened_then_replaced(name: Path) -> int:
        descriptor = open_regular_file(name)
        for turn in turns:
            with create_hdf5_file(path, start=path) as file:
                file.attrs["turn"] = turn
        return descriptor

    monkeypatch.setattr(reader, "open_regular_file", opened_then_replaced)
    assert read_hdf5_file(path, lambda file: int(file.attrs["turn"])) in (0, 1)

"""Layout "single" under real ranks; needs an h5py built for MPI and the launcher of that MPI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import runstore_example as example
from mpirun import mpirun

from clicooper_hpc.runstore.reader import open_run

JOBS = str(Path(__file__).with_name("runstore_jobs.py"))

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not h5py.get_config().mpi, reason="this h5py was built without MPI"),
]


def share(folder: Path, ending: str) -> subprocess.CompletedProcess[str]:
    return mpirun(3, [JOBS, "share_one_file", str(folder), ending], timeout_s=90)


def test_one_file_written_by_all_reads_like_shards(tmp_path: Path) -> None:
    done = share(tmp_path / "single", "return")
    assert done.returncode == 0, done.stderr
    assert [item.name for item in sorted((tmp_path / "single").iterdir())] == [
        "delivery",
        "run.h5",
    ]
    folder, writers = example.start_run(tmp_path / "shards")
    for rank, writer in enumerate(writers):
        with writer:
            example.write_steps(writer, rank, range(8 - rank))
            if rank == 0:
                example.write_owner_events(writer)
    single, shards = open_run(tmp_path / "single"), open_run(folder.path)
    assert single.status == "complete"
    assert single.results == {name: item.value for name, item in example.RESULTS.items()}
    assert single.missing_ranks == single.changed_ranks == ()
    for name in ("steps", "training", "evaluation", "releases"):
        assert single.table(name)[shards.table(name).columns].equals(shards.table(name))
    assert single.to_xarray().drop_attrs().equals(shards.to_xarray().drop_attrs())
    with h5py.File(tmp_path / "single" / "run.h5", "r") as one, h5py.File(folder.index, "r") as two:
        assert set(one["metrics"]) == set(two["metrics"])
        assert np.array_equal(one["metrics/complete"][:], two["metrics/complete"][:])
        assert np.array_equal(one["metrics/step_s"], two["metrics/step_s"], equal_nan=True)
        assert one["evaluation/clean_accuracy"][0] == 0.75
        assert one["metrics/step_s"].dims[1][0].name == "/rank"
        assert one["metrics/rank"][:].tolist() == two["metrics/rank"][:].tolist()


def test_a_killed_rank_leaves_every_row_of_all(tmp_path: Path) -> None:
    done = share(tmp_path / "run", "kill")
    assert done.returncode != 0
    look = (
        "import sys, clicooper_hpc\n"
        "run = clicooper_hpc.open_run(sys.argv[1])\n"
        "print(run.status, run.table('steps')['rank'].value_counts().to_dict())\n"
    )
    command = [sys.executable, "-c", look, str(tmp_path / "run")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "incomplete {0: 5, 1: 5, 2: 5}"

"""Layout "single" in whole runs; needs an h5py built for MPI and the launcher of that MPI."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
from restarts import plain_verdict
from start import start, train

from clicooper_hpc.errors import ExitCode

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(not h5py.get_config().mpi, reason="this h5py was built without MPI"),
]

UNFIT = """
from types import SimpleNamespace

import h5py
from mpi4py import MPI
from torch import nn


def network(*, input_shape, outputs):
    if MPI.COMM_WORLD.rank == 2:
        h5py.get_config = lambda: SimpleNamespace(mpi=False)
    return nn.Sequential(nn.Linear(input_shape[0], 16), nn.ReLU(), nn.Linear(16, outputs))
"""


def test_one_file_is_the_same_run_as_shards(tmp_path: Path) -> None:
    settings = ['privacy.mode="reproducible-INSECURE"', "training.evaluate_every_epochs=1"]
    shards = train(tmp_path, 3, *settings, name="shards")
    single = train(tmp_path, 3, *settings, "output.layout=single", name="single")
    assert not list(single.folder.path.glob("rank-*"))
    weights = sorted((shards.folder.path / "delivery").iterdir())
    assert len(weights) == 2
    for file in weights:
        assert file.read_bytes() == (single.folder.path / "delivery" / file.name).read_bytes()
    for rank in shards.ranks:
        assert single.table_names(rank) == shards.table_names(rank)
        # Keys, nonces and with them the ledger are every run's own.
        for name in sorted(set(shards.table_names(rank)) - {"ledger", "checkpoints", "heads"}):
            one, other = single.table(name, rank=rank), shards.table(name, rank=rank)
            columns = [column for column in other if not str(column).endswith("_s")]
            assert one[columns].equals(other[columns])


def test_its_proofs_verify_and_a_row_of_no_stage_fails_them(tmp_path: Path) -> None:
    run = train(tmp_path, 3, "output.layout=single")
    text, code = plain_verdict(run)
    assert code == ExitCode.DONE, text
    with h5py.File(run.folder.index, "r+", locking=False) as file:
        marks = file["ranks/001/messages/complete"]
        rows = int(marks[:].sum())
        assert rows < len(marks)
        marks[rows] = 1
    text, code = plain_verdict(run)
    assert code == ExitCode.VERIFICATION
    assert "NOT verified: check 15 failed" in text


def test_a_rank_without_parallel_hdf5_ends_all_before_any_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "unfit.py").write_text(UNFIT)
    done = start(
        tmp_path, 3, "model.name=unfit:network", "model.options={}", "output.layout=single"
    )
    assert done.returncode == 5
    lines = [line for line in done.stderr.splitlines() if line.startswith("clicooper:")]
    assert len(lines) == 1
    assert lines[0].startswith("clicooper: 2/3 trainer 2: ")
    assert "no parallel HDF5" in lines[0]
    assert not (tmp_path / "run").exists()

"""A run that cannot be: every rank ends, with the right exit code and one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from start import SMALL, start

from clicooper_hpc.runstore.reader import open_run

pytestmark = pytest.mark.mpi

FAULTY = '''
import torch
from torch import nn


class Fault(nn.Module):
    """Passes its input on until its 20th forward in training."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        if self.calls == 20:
            raise RuntimeError("the layer broke")
        return x * 1.0


def network(*, input_shape, outputs):
    return nn.Sequential(
        nn.Linear(input_shape[0], 16), nn.ReLU(), nn.Linear(16, 16), Fault(), nn.Linear(16, outputs)
    )
'''


def our_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("clicooper:")]


def test_wrong_number_of_ranks_is_said_once_with_the_fix(tmp_path: Path) -> None:
    done = start(tmp_path, 3, "pipeline.segments=3")
    assert done.returncode == 2
    lines = our_lines(done.stderr)
    assert len(lines) == 1
    assert "mpirun -n 4 clicooper run" in lines[0]
    assert not (tmp_path / "run").exists()


def test_one_rank_alone_is_told_how_to_start(tmp_path: Path) -> None:
    done = start(tmp_path, 1)
    assert done.returncode == 2
    assert "at least 2 ranks" in our_lines(done.stderr)[0]


def test_a_launcher_of_another_mpi_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    args = ["-m", "clicooper_hpc", "run", str(tmp_path / "job.toml"), "-o", str(tmp_path / "run")]
    # Without a launcher, for Open MPI's would set the variable anew.
    done = subprocess.run(
        [sys.executable, *args],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMPI_COMM_WORLD_SIZE": "4"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 5
    assert "the launcher started 4 processes" in our_lines(done.stderr)[0]


def test_an_existing_run_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("keep me")
    done = start(tmp_path, 2)
    assert done.returncode == 2
    assert len(our_lines(done.stderr)) == 1
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine"]


def test_budget_stops_before_anything_is_sent(tmp_path: Path) -> None:
    done = start(tmp_path, 3, "privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5")
    assert done.returncode == 3
    lines = our_lines(done.stderr)
    assert len(lines) == 1
    assert "budget 7.9" in lines[0]
    assert "Nothing was sent" in lines[0]
    assert not (tmp_path / "run" / "wire").exists()


def test_single_layout_without_parallel_hdf5_says_what_to_do(tmp_path: Path) -> None:
    import h5py

    if h5py.get_config().mpi:
        pytest.skip("this h5py has parallel HDF5")
    done = start(tmp_path, 2, "output.layout=single")
    assert done.returncode == 5
    lines = our_lines(done.stderr)
    assert len(lines) == 1
    assert 'output.layout = "shards"' in lines[0]


def test_an_exception_on_one_rank_ends_all_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    done = start(
        tmp_path, 4, "model.name=faulty:network", "model.options={}", "pipeline.micro_batches=3"
    )
    assert done.returncode == 1
    lines = our_lines(done.stderr)
    assert len(lines) == 1
    assert "the layer broke" in lines[0]
    assert "trainer" in lines[0]
    assert "MPI_Abort" not in done.stderr


def test_a_killed_trainer_ends_all_and_leaves_a_run_to_look_at(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(
        FAULTY.replace("import torch\n", "import os\nimport signal\n").replace(
            'raise RuntimeError("the layer broke")', "os.kill(os.getpid(), signal.SIGKILL)"
        )
    )
    done = start(tmp_path, 4, "model.name=killed:network", "model.options={}")
    assert done.returncode != 0
    assert our_lines(done.stderr) == []
    assert open_run(tmp_path / "run").status == "incomplete"


def test_a_loss_that_is_not_finite_names_the_step(tmp_path: Path) -> None:
    done = start(tmp_path, 3, "training.learning_rate=1e30", "training.epochs=20")
    assert done.returncode == 1
    lines = our_lines(done.stderr)
    assert len(lines) == 1
    assert "step" in lines[0]
    assert "learning_rate" in lines[0]

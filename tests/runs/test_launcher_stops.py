"""A launcher that is asked to stop: its ranks save, the folder says so, and the run goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from mpirun import finish, launch
from restarts import RESTART_JOB, resume
from slurm_cluster import until

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import open_run

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(300)]

RANKS = 2
#: A step takes long enough for the request to come before the last one.
PACED = Path(__file__).parents[1] / "cluster" / "programs" / "paced.py"


def test_a_launcher_passes_a_request_on_and_the_run_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.toml").write_text(RESTART_JOB)
    run = tmp_path / "run"
    words = [str(PACED), "run", str(tmp_path / "job.toml"), "-o", str(run)]
    launcher = launch(RANKS, [*words, "--set", "training.epochs=8"])
    until("the run has begun", lambda: (run / "run.h5").exists() or launcher.poll() is not None)
    launcher.send_signal(signal.SIGUSR1)
    done = finish(launcher)
    assert "on request (SIGUSR1)" in done.stderr
    # The launcher may mix the codes of the ranks; what all have done the folder says.
    assert done.returncode == 75, done.stderr
    assert main(["inspect", str(run)]) == 75
    step = find_checkpoints(run)[0].step
    assert f"saved by all ranks after {step} steps" in capfd.readouterr().out
    assert step > 0
    done = resume(tmp_path, RANKS)
    assert done.returncode == 0, done.stderr
    assert open_run(run).status == "complete"
    assert not (run / "SAVED").exists()
    assert main(["inspect", str(run)]) == 0

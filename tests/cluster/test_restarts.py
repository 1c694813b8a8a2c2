"""Real runs that Slurm signals, stops and starts again: the same weights in the end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cluster_jobs import SAME, segments, slowly, submit, until_training
from slurm_cluster import SlurmCluster, until

from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import open_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def whole(slurm_session: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that Slurm leaves alone."""
    folder = tmp_path_factory.mktemp("whole")
    job = submit(slurm_session, folder, *SAME)
    assert slurm_session.wait(job, "COMPLETED")["ExitCode"] == "0:0"
    return folder / "run"


def check(slurm: SlurmCluster, folder: Path, whole: Path) -> None:
    """Compare the run in ``folder`` with the one that was left alone, and verify it."""
    assert open_run(folder / "run").status == "complete"
    assert segments(folder / "run") == segments(whole)
    told = slurm.call("clicooper", "verify", "run", cwd=folder).stdout
    assert "verified: every check that applies passed" in told


def test_a_time_limit_leads_to_a_checkpoint_a_requeue_and_the_same_weights(
    slurm: SlurmCluster, tmp_path: Path, whole: Path
) -> None:
    """Slurm warns the script before its limit of one minute, in which the run cannot end.

    Their second start gets all the time it wants: a third would show nothing more.
    """
    limit = ("slurm.time_min=1", "slurm.signal_s=30")
    job = submit(slurm, tmp_path, *SAME, *limit, setup=slowly(tmp_path))
    stopped = "on request (the file STOP)"
    until("the limit has stopped it", lambda: stopped in slurm.log(job), timeout_s=120)
    slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    ended = slurm.wait(job, "COMPLETED", timeout_s=600)
    assert ended["ExitCode"] == "0:0"
    assert int(ended["Restarts"]) >= 1
    assert int(open_run(tmp_path / "run").attrs["restarts"]) >= 1
    check(slurm, tmp_path, whole)


def test_cancelled_submitted_again_killed_and_requeued_it_ends_with_the_same_weights(
    slurm: SlurmCluster, tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / "run"
    job = submit(slurm, tmp_path, *SAME, setup=slowly(tmp_path))
    until_training(slurm, job, run)
    slurm.cancel(job)
    slurm.wait(job, "CANCELLED")
    until("every process of the job is gone", lambda: not slurm.processes(job))
    job = slurm.call("sbatch", "--parsable", "run.slurm/job.sbatch", cwd=tmp_path).stdout.strip()
    until("it goes on", lambda: open_run(run).attrs["restarts"] == 1, timeout_s=300)
    before = find_checkpoints(run)
    until("it has saved", lambda: find_checkpoints(run) != before, timeout_s=300)
    slurm.rank(job, 2).send_signal(signal.SIGKILL)
    slurm.wait(job, "FAILED")
    slurm.requeue(job)
    assert slurm.wait(job, "COMPLETED", timeout_s=600)["ExitCode"] == "0:0"
    check(slurm, tmp_path, whole)

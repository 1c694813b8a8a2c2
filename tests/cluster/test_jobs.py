"""Jobs in a real Slurm: they come to their end, and say why they do not."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from cluster_jobs import JOB, LONG, assert_readable, submit, until_training
from slurm_cluster import SlurmCluster, until

from clicooper_hpc.runstore.reader import open_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_job_trains_to_its_end_and_verifies(
    slurm: SlurmCluster, tmp_path: Path, nodes: int
) -> None:
    job = submit(slurm, tmp_path, f"slurm.nodes={nodes}")
    ended = slurm.wait(job, "COMPLETED")
    assert ended["ExitCode"] == "0:0"
    assert ended["NumNodes"] == str(nodes)
    assert "complete" in slurm.call("clicooper", "inspect", "run", cwd=tmp_path).stdout
    told = slurm.call("clicooper", "verify", "run", cwd=tmp_path).stdout
    assert "verified: every check that applies passed" in told
    assert open_run(tmp_path / "run").status == "complete"


def test_an_array_makes_a_run_of_each_seed(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "slurm.seeds=[3, 4]")
    for task, seed in enumerate((3, 4)):
        assert slurm.wait(f"{job}_{task}", "COMPLETED")["ExitCode"] == "0:0"
        run = open_run(tmp_path / f"run-seed-{seed}")
        assert run.status == "complete"
        assert run.job["training"]["seed"] == seed


def test_a_wrong_job_file_ends_with_2(slurm: SlurmCluster, tmp_path: Path) -> None:
    # It was right when it was submitted: what is wrong then is never submitted.
    job_file = tmp_path / "job.toml"
    shutil.copy(JOB, job_file)
    (tmp_path / "fronts").symlink_to(JOB.parent / "fronts")
    job = submit(slurm, tmp_path, "slurm.extra=['--hold']", job=job_file)
    job_file.write_text(job_file.read_text().replace("epochs = 120", "epoch = 120"))
    slurm.call("scontrol", "release", job)
    assert slurm.wait(job, "FAILED")["ExitCode"] == "2:0"
    assert "training.epoch" in slurm.log(job)


def test_a_budget_exceeded_ends_with_3(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5")
    assert slurm.wait(job, "FAILED")["ExitCode"] == "3:0"
    assert "budget 7.9" in slurm.log(job)


def test_an_environment_without_the_program_ends_with_5(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, setup='slurm.setup=["PATH=/usr/bin:/bin"]')
    assert slurm.wait(job, "FAILED")["ExitCode"] == "5:0"
    assert "clicooper: not found; slurm.setup is to load it" in slurm.log(job)


def test_cancelled_while_training_leaves_readable_files_and_no_process(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    job = submit(slurm, tmp_path, LONG)
    until_training(slurm, job, tmp_path / "run")
    assert len(slurm.processes(job)) >= 4  # the script and three ranks
    slurm.cancel(job)
    slurm.wait(job, "CANCELLED")
    until("every process of the job is gone", lambda: not slurm.processes(job))
    assert_readable(tmp_path / "run")


def test_a_killed_rank_ends_the_job(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, LONG)
    until_training(slurm, job, tmp_path / "run")
    slurm.rank(job, 1).send_signal(signal.SIGKILL)
    # Long before the job's time limit: --kill-on-bad-exit ends the others.
    # srun's code is the highest of all ranks: killed (128 + 9), or ended by it (128 + 15).
    assert slurm.wait(job, "FAILED")["ExitCode"] in {"137:0", "143:0"}
    until("every process of the job is gone", lambda: not slurm.processes(job))
    assert_readable(tmp_path / "run")

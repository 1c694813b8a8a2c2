"""Jobs that Slurm signals, stops and starts again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, until

pytestmark = pytest.mark.cluster

#: The first start waits for Slurm's warning, tells its step and goes back into the queue.
SCRIPT = """
if [ -n "$SLURM_RESTART_COUNT" ]; then
    echo "start $SLURM_RESTART_COUNT of $SLURM_JOB_ID goes on from $(cat saved)"
    exit 0
fi
warned() { kill -USR1 "$step"; wait "$step"; echo "step ended with $?"; }
trap warned USR1
srun bash -c 'trap "echo step 7 >saved; exit 75" USR1; echo ready; while :; do sleep 0.1; done' &
step=$!
wait "$step"
scontrol requeue "$SLURM_JOB_ID"
sleep 60
"""

#: Of an array, the task with number 0 puts itself back into the queue, once.
TASKS = """
echo "task $SLURM_ARRAY_TASK_ID, start ${SLURM_RESTART_COUNT:-0}"
if [ "$SLURM_ARRAY_TASK_ID" = 0 ] && [ -z "$SLURM_RESTART_COUNT" ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    sleep 60
fi
"""

#: Three ranks of MPICH that stay. The loop gives the step of each start a number of its own, for
#: MPICH would wait for ever on the shared memory that a killed step left under the same number.
RANKS = """
for ((i = 0; i < ${SLURM_RESTART_COUNT:-0}; i++)); do srun -n1 -N1 true; done
srun --mpi=pmi2 --kill-on-bad-exit=1 clicooper-rank
sleep 60
"""
RANK = f"""#!{sys.executable}
import time
from mpi4py import MPI
print("rank", MPI.COMM_WORLD.rank, "of", MPI.COMM_WORLD.size, "is up", flush=True)
time.sleep(100)
"""


def test_a_signalled_job_saves_and_goes_on_in_its_next_life(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    options = ("--ntasks=1", "--time=5", "--requeue", "--open-mode=append")
    job = slurm.submit(SCRIPT, tmp_path, *options)
    until("its step is ready", lambda: "ready" in slurm.log(job))
    slurm.cancel(job, "--signal=USR1", "--batch")
    ended = slurm.wait(job, "COMPLETED")
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "1")
    assert f"start 1 of {job} goes on from step 7" in slurm.log(job)
    assert "step ended with 75" in slurm.log(job)


def test_ranks_start_again_after_one_was_killed(slurm: SlurmCluster, tmp_path: Path) -> None:
    (tmp_path / "clicooper-rank").write_text(RANK)
    (tmp_path / "clicooper-rank").chmod(0o755)
    text = f"PATH={tmp_path}:$PATH\n{RANKS}"
    job = slurm.submit(text, tmp_path, "--ntasks=3", "--requeue", "--open-mode=append")
    until("three ranks are up", lambda: slurm.log(job).count("of 3 is up") == 3)
    slurm.rank(job, 1).send_signal(signal.SIGKILL)
    until("their step has ended", lambda: "task 1: Killed" in slurm.log(job))
    slurm.requeue(job)
    until("they are up again", lambda: slurm.log(job).count("of 3 is up") == 6)
    assert slurm.show(job)["Restarts"] == "1"


def test_a_task_of_an_array_starts_itself_again_and_no_other(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    """By its job number alone, which may be that of the array, it would start all of them."""
    options = ("--array=0-1", "--requeue", "--open-mode=append", f"--output={tmp_path}/%a.out")
    slurm.submit(TASKS, tmp_path, *options)
    log = tmp_path / "0.out"
    until("task 0 goes on", lambda: log.exists() and "start 1" in log.read_text())
    until("all have ended", lambda: not slurm.call("squeue", "--noheader").stdout.strip())
    assert (tmp_path / "1.out").read_text() == "task 1, start 0\n"

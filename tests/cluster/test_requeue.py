"""Jobs that Slurm signals, stops and starts again."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, until

pytestmark = pytest.mark.cluster

#: The first life waits for Slurm's warning, tells its step and goes back into the queue.
SCRIPT = """
if [ -n "$SLURM_RESTART_COUNT" ]; then
    echo "life $SLURM_RESTART_COUNT of $SLURM_JOB_ID goes on from $(cat saved)"
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


def test_a_signalled_job_saves_and_goes_on_in_its_next_life(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    options = ("--ntasks=1", "--time=5", "--requeue", "--open-mode=append")
    job = slurm.submit(SCRIPT, tmp_path, *options)
    until("its step is ready", lambda: "ready" in slurm.log(job))
    slurm.cancel(job, "--signal=USR1", "--batch")
    ended = slurm.wait(job, "COMPLETED")
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "1")
    assert f"life 1 of {job} goes on from step 7" in slurm.log(job)
    assert "step ended with 75" in slurm.log(job)

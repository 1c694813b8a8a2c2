"""Real runs that are asked to stop at moments drawn by chance: each goes on, to the same weights.

Minutes long, so on request: CLICOOPER_STOPS says how many stops; up to three jobs share them.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from cluster_jobs import SAME, segments, slowly, submit, until_training
from slurm_cluster import SlurmCluster, until

from clicooper_hpc.runstore.checkpoints import find_checkpoints
from clicooper_hpc.runstore.reader import open_run

STOPS = int(os.environ.get("CLICOOPER_STOPS", "0"))
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not STOPS, reason="CLICOOPER_STOPS does not say how many stops"),
]

JOBS = min(3, STOPS)
SEED = 13
#: Who is asked when: the script while the ranks start or train, the launcher, every rank. With
#: "twice" the ranks are asked once more while they save or end.
MOMENTS = ("start", "training", "twice", "launcher", "ranks")
ENDED = re.compile(r"the launcher ended with exit code (\d+)")


def ask_script(slurm: SlurmCluster, job: str) -> None:
    """Do what Slurm does before a time limit."""
    slurm.cancel(job, "--signal=USR1", "--batch")


def ask_launcher(slurm: SlurmCluster, job: str) -> None:
    """Send SIGUSR1 to the `srun` of the run; it has a helper process, which is no launcher."""
    found = []
    for process in slurm.processes(job):
        with contextlib.suppress(psutil.Error):
            if process.name() == "srun" and process.parent().name() != "srun":
                found.append(process)
    (launcher,) = found
    launcher.send_signal(signal.SIGUSR1)


def ask(slurm: SlurmCluster, job: str, run: Path, moment: str, chance: random.Random) -> None:
    """Ask the start of the run that has just begun to stop."""
    start = int(slurm.show(job)["Restarts"])
    if moment == "start":
        time.sleep(chance.uniform(0, 6))
        ask_script(slurm, job)
        return
    if start == 0:
        until_training(slurm, job, run)
    else:
        until("it goes on", lambda: open_run(run).attrs["restarts"] == start, timeout_s=300)
        # Rows come to the file at a checkpoint or after a while: until then, as many as before.
        done = saved_step(run)
        until("it trains", lambda: len(open_run(run).table("steps", 1)) > done, timeout_s=300)
    time.sleep(chance.uniform(0, 2))
    if moment == "launcher":
        ask_launcher(slurm, job)
    elif moment == "ranks":
        slurm.cancel(job, "--signal=USR1")
    else:
        ask_script(slurm, job)
        if moment == "twice":
            time.sleep(chance.uniform(0, 4))
            # There may be no rank any more.
            slurm.call("scancel", "--signal=USR1", job, check=False)


def saved_step(run: Path) -> int:
    """Return the step of the newest checkpoint."""
    return find_checkpoints(run)[0].step


def stop_often(slurm: SlurmCluster, folder: Path, moments: list[str], epochs: int) -> str:
    """Stop a run once at each of ``moments``, then let it come to its end; return its log."""
    folder.mkdir()
    run = folder / "run"
    chance = random.Random(f"{SEED} {folder.name}")
    job = submit(
        slurm, folder, *SAME, f"training.epochs={epochs}", "slurm.max_requeues=1000",
        setup=slowly(folder, "export UNPLANNED=1"),
    )  # fmt: skip
    last = 0
    for count, moment in enumerate(moments):
        slurm.wait(job, "RUNNING", timeout_s=300)
        ask(slurm, job, run, moment, chance)

        def started_again(count: int = count) -> bool:
            shown = slurm.wait(job, "RUNNING", "PENDING", "REQUEUED", "COMPLETING")
            return int(shown["Restarts"]) == count + 1

        try:
            until(f"it is started again after stop {count}", started_again, timeout_s=300)
        except AssertionError as error:
            error.add_note(f"asked at {moment}: {slurm.log(job)[-4000:]}")
            raise
        # Asked in any start, it still comes further.
        step = saved_step(run)
        assert (run / "SAVED").read_text().split()[1] == str(step)
        assert step > last, (moment, step, last)
        last = step
    assert slurm.wait(job, "COMPLETED", timeout_s=900)["ExitCode"] == "0:0"
    assert int(slurm.show(job)["Restarts"]) == len(moments)
    assert open_run(run).attrs["restarts"] == len(moments)
    return slurm.log(job)


def check_stops(
    slurm: SlurmCluster, folder: Path, shares: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stop a run for each of ``shares``, several at a time, and compare it with a whole one."""
    epochs = 8 + 2 * max(len(share) for share in shares)
    (folder / "whole").mkdir()
    whole = submit(slurm, folder / "whole", *SAME, f"training.epochs={epochs}")
    slurm.wait(whole, "COMPLETED")
    places = [folder / f"stopped-{number}" for number in range(len(shares))]
    with ThreadPoolExecutor(len(shares)) as pool:
        logs = [
            pool.submit(stop_often, slurm, place, share, epochs)
            for place, share in zip(places, shares, strict=True)
        ]
        codes = Counter(code for log in logs for code in ENDED.findall(log.result()))
    for place in places:
        assert segments(place / "run") == segments(folder / "whole" / "run")
        assert not (place / "run" / "SAVED").exists()
        assert not (place / "run" / "STOP").exists()
        told = slurm.call("clicooper", "verify", "run", cwd=place).stdout
        assert "verified: every check that applies passed" in told
    # The last start of each has come to its end.
    assert codes.pop("0") >= len(shares)
    stops = sum(len(share) for share in shares)
    with capsys.disabled():
        sys.stdout.write(f"\n{stops} stops; srun's exit codes: {dict(codes)}\n")


def test_stops_at_any_moment_are_followed_by_a_start_that_goes_on(
    slurm: SlurmCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(SEED)
    moments = [chance.choice(MOMENTS) for _ in range(STOPS)]
    check_stops(slurm, tmp_path, [moments[n::JOBS] for n in range(JOBS)], capsys)


def test_a_request_to_srun_reaches_the_ranks(
    slurm: SlurmCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_stops(slurm, tmp_path, [["launcher"]], capsys)

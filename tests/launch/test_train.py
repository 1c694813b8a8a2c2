"""`clicooper_hpc.train`: real ranks below a process that is none; nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from tiny_job import TINY

import clicooper_hpc
from clicooper_hpc.config.toml_text import format_toml_table
from clicooper_hpc.errors import (
    BudgetExceededError,
    ClicooperError,
    EnvironmentUnfitError,
    RunFolderError,
    UsageError,
)
from clicooper_hpc.runstore.reader import open_run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.mpi
#: Longest wait for something that takes a second or two.
PATIENCE_S = 60.0


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(format_toml_table(TINY, where="job"))
    return path


def ranks_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that were started for a run, launcher and proxies included."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]


def await_true(question: object) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not question():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains for far longer than any test takes, once rows have left."""
    code = (
        "import clicooper_hpc as c, sys\n"
        "try:\n"
        f"    c.train({TINY!r}, output={str(tmp_path / 'run')!r},\n"
        "            overrides={'training.epochs': 100000, 'checkpoint.every_steps': 50})\n"
        "except KeyboardInterrupt as end:\n"
        "    print(end, [m for m in ('torch', 'mpi4py') if m in sys.modules])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        await_true((tmp_path / "run" / "run.h5").exists)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_saves_and_a_second_call_goes_on(
    tmp_path: Path, caller: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(caller.pid, signal.SIGINT)
    out, _ = caller.communicate(timeout=PATIENCE_S)
    assert "the ranks finish their step and save" in out
    assert "saved after" in out
    # Neither library was loaded where train was called.
    assert out.rstrip().endswith("[]")
    assert ranks_of(tmp_path / "run") == []
    # The job of a mapping leaves no file behind.
    assert [one.name for one in tmp_path.iterdir()] == ["run"]
    monkeypatch.chdir(tmp_path)
    overrides: Mapping[str, object] = {"training.epochs": 100000, "checkpoint.every_steps": 50}
    with pytest.raises(UsageError, match=r"training\.seed is 0 there and 1 here"):
        clicooper_hpc.train(
            TINY, output="run", overrides={**overrides, "training.seed": 1}, resume=True
        )
    with pytest.raises(RunFolderError, match="begun here already"):
        clicooper_hpc.train(TINY, output="run", overrides=overrides)


def test_no_rank_outlives_a_caller_that_is_killed(
    tmp_path: Path, caller: subprocess.Popen[str]
) -> None:
    started = ranks_of(tmp_path / "run")
    assert len(started) > 2
    caller.kill()
    await_true(lambda: ranks_of(tmp_path / "run") == [])
    # Begun, and whole enough to go on with.
    assert open_run(tmp_path / "run").status == "incomplete"


@pytest.mark.parametrize(
    ("code", "line", "kind"),
    [
        (2, "0/2 owner: data.path: no such file. Check it", UsageError),
        (3, "0/2 owner: the budget is 1", BudgetExceededError),
        (5, "the launcher started 2 processes, but MPI sees 1", EnvironmentUnfitError),
        # As hydra says of one rank with 1 and one with 2.
        (79, "1/2 trainer 1: internal error", ClicooperError),
    ],
)
def test_what_ranks_end_with_is_raised(
    code: int, line: str, kind: type[ClicooperError], tmp_path: Path, job_file: Path
) -> None:
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\necho clicooper: '{line}' >&2\necho more\nexit {code}\n")
    program.chmod(0o700)
    with pytest.raises(ClicooperError) as error:
        clicooper_hpc.train(job_file, output=tmp_path / "run", mpiexec=program)
    assert type(error.value) is kind
    assert str(error.value) == line


def test_ranks_that_end_without_a_word_are_told(tmp_path: Path, job_file: Path) -> None:
    with pytest.raises(ClicooperError, match="exit code 1 and without a word") as error:
        clicooper_hpc.train(job_file, output=tmp_path / "run", mpiexec="/bin/false")
    assert error.value.exit_code == 1
    assert "clicooper doctor" in str(error.value)


@pytest.mark.parametrize(
    ("job", "arguments", "said"),
    [
        ("missing.toml", {}, "no such job file"),
        (TINY, {}, "Give output"),
        ({**TINY, "trainnig": {}}, {"output": "run"}, "unknown key trainnig"),
        ({**TINY, "training": {"epochs": None}}, {"output": "run"}, "job, training, epochs"),
        (TINY, {"output": "run", "ranks": 4}, "needs 2 ranks"),
        (TINY, {"output": "run", "overrides": "training.epochs=3"}, "is one text"),
        ({"data": {"path": "digits"}}, {"output": "run"}, "train, ranks: the job leaves"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    job: object,
    arguments: dict[str, object],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said) as error:
        clicooper_hpc.train(job, **arguments)  # type: ignore[arg-type]
    assert ".clicooper-job" not in str(error.value)
    assert [*tmp_path.iterdir()] == []


def test_a_rank_does_not_train(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setenv("PMI_RANK", "1")
    with pytest.raises(UsageError, match="one of 4 that MPICH's mpiexec started"):
        clicooper_hpc.train(job_file)


def test_without_mpiexec_the_remedy_is_named(
    job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentUnfitError, match=r"no mpiexec.*mpich"):
        clicooper_hpc.train(job_file)
    with pytest.raises(EnvironmentUnfitError, match="no such program"):
        clicooper_hpc.train(job_file, mpiexec="mpiexec-of-nobody")

"""`clicooper_hpc.train`: real ranks below a process that is none; nothing of them is left."""

from __future__ import annotations

import importlib
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
from clicooper_hpc.launch import ranks_of_run
from clicooper_hpc.launch.rank_processes import RankProcesses
from clicooper_hpc.launch.run_start import RunStart
from clicooper_hpc.runstore.reader import open_run

#: The module, for which the package's name is its function.
train_module = importlib.import_module("clicooper_hpc.launch.train")

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
    # The job of a mapping leaves no file behind, and what asked the ranks to stop is gone too.
    assert [one.name for one in tmp_path.iterdir()] == ["run"]
    assert not (tmp_path / "run" / "STOP").exists()
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
    await_true(lambda: [one.name for one in tmp_path.iterdir()] == ["run"])
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
        (TINY, {"output": "run", "ranks": 4}, "train, ranks: .*needs 2 ranks"),
        (TINY, {"output": "run", "overrides": "training.epochs=3"}, "is one text"),
        ({"data": {"path": "digits"}}, {"output": "run"}, "train, ranks: the job leaves"),
        # Arguments of another kind.
        (17, {}, r"train, job: 17 \(int\) is no text or path"),
        (None, {}, "train, job: None"),
        (b"job.toml", {}, "train, job: b'job.toml'"),
        ("", {}, "train, job: .*empty"),
        ("a\0b", {}, "train, job: .*NUL"),
        ("\ud800", {}, "train, job: .*no name of a file"),
        (".", {}, "is a folder, not a job file"),
        *(
            (TINY, {"output": "run", name: value}, f"train, {name}[^:]*: {said}")
            for name, value, said in (
                ("ranks", True, "True .bool. is no whole number"),
                ("ranks", "4", "'4' .str.*ranks=4"),
                ("ranks", 4.0, "4.0 .float. is no whole number"),
                ("resume", "yes", "'yes' .str. is neither True nor False"),
                ("quiet", 1, "1 .int. is neither"),
                ("output", 3, "3 .int. is no text or path"),
                ("output", "a\0b", ".*NUL"),
                ("output", "", ".*empty"),
                ("mpiexec", ["mpiexec"], ".*no text or path"),
                ("mpiexec", "a\0b", ".*NUL"),
                ("overrides", 3, "3 .int. is neither a mapping nor a list"),
                ("overrides", None, "None .NoneType. is neither"),
                ("overrides", b"a.b=1", ".*neither a mapping nor a list"),
                ("overrides", ["training.epochs=3", 3], "3 .int. is no text"),
                ("overrides", {3: 4}, "3 .int. is no key"),
                ("overrides", {"training.epochs": object()}, ".*no value of a job"),
                ("overrides", {"training.epochs": 10**5000}, ".*64 bits"),
            )
        ),
        # A job that no file could hold.
        ({**TINY, "training": {"epochs": 10**5000}}, {"output": "run"}, "job, training, epochs: "),
        ({**TINY, "model": {"name": "\ud800"}}, {"output": "run"}, "job: name.*no Unicode"),
        ({**TINY, "model": {"name": "a\0b"}}, {"output": "run"}, "job: name.*NUL"),
        ({**TINY, "model": {"name": int}}, {"output": "run"}, "job, model, name: .*no value"),
        ({**TINY, "model": 3}, {"output": "run"}, "job: model"),
        # In words of Python: there is no shell here.
        (TINY, {"output": "run", "overrides": ["epochs"]}, r"^overrides=\['epochs'\] is not of"),
        (TINY, {"output": "run", "overrides": ["epochs"]}, r'overrides=\["training.epochs=3"\]$'),
        (TINY, {"output": "run", "overrides": {"training.epochs": "x"}}, "^train, overrides: "),
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
    assert not any(one in str(error.value) for one in (".clicooper-job", "--set", "--ranks"))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("find_mpiexec", "before any rank was started"),
        ("load", "before any rank was started"),
        ("starting", "stopped before anything left the owner"),
        ("lines", "stopped before anything left the owner"),
        ("exit_code", "stopped before anything left the owner"),
        ("close_on_exit", "stopped before anything left the owner"),
    ],
)
def test_ctrl_c_always_says_what_became_of_the_run(
    moment: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupt(*_: object, **options: object) -> None:
        raise KeyboardInterrupt

    place, name = {
        "find_mpiexec": (train_module, "find_mpiexec"),
        "load": (RunStart, "load"),
        "starting": (ranks_of_run, "RankProcesses"),
    }.get(moment, (RankProcesses, moment))
    if moment == "close_on_exit":
        monkeypatch.setattr(RankProcesses, "lines", lambda _: iter(()))
    monkeypatch.setattr(place, name, interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt, match=said):
        clicooper_hpc.train(TINY, output="run", mpiexec="/bin/true")
    assert [*tmp_path.iterdir()] == []


def test_a_program_that_cannot_be_started_is_one_line(tmp_path: Path, job_file: Path) -> None:
    program = tmp_path / "mpiexec"
    program.write_bytes(b"\x7fELF, but no more")
    program.chmod(0o700)
    with pytest.raises(EnvironmentUnfitError, match=r"mpiexec: cannot be started \(Exec"):
        clicooper_hpc.train(job_file, output=tmp_path / "run", mpiexec=program)


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

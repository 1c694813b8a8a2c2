"""The guard of commands that read files of others: crashes and hangs below Python become a line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runstore_example as example

#: A program whose child does what is asked while it says to be reading a file.
PROGRAM = """
import ctypes, os, signal, sys, time
from pathlib import Path
from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.commands.reading_guard import run_guarded
from clicooper_hpc.runstore.hdf5.reading_note import note_reading

# Whoever starts this in the background has it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)

def command():
    {before}
    with note_reading(Path("run/rank-002.h5"), 1000):
        {inside}
    {after}

try:
    sys.exit(run_guarded(command, patience_s=0.5))
except ClicooperError as error:
    print(f"clicooper: {{error.line()}}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def guarded(
    inside: str = "pass", before: str = "pass", after: str = "return 0"
) -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(before=before, inside=inside, after=after)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("code", [0, 2, 4, 75])
def test_the_code_of_the_command_is_the_code_of_the_program(code: int) -> None:
    done = guarded(before="print('once')", after=f"return {code}")
    assert (done.returncode, done.stdout, done.stderr) == (code, "once\n", "")


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_fault_of_c_code_names_the_file_that_was_read(name: str) -> None:
    done = guarded(inside=f"os.kill(os.getpid(), signal.{name})")
    assert done.returncode == 2
    assert done.stderr == (
        f"clicooper: run/rank-002.h5: HDF5 ended the process ({name}) while reading it: it is "
        "damaged, or made to do that. Restore it from a copy.\n"
    )


def test_a_call_that_never_comes_back_is_ended_and_named() -> None:
    # In C, with Python's lock held: no handler and no thread of the process would run.
    done = guarded(inside="ctypes.PyDLL(None).sleep(3600)")
    assert done.returncode == 2
    assert "run/rank-002.h5: HDF5 did not come back within" in done.stderr
    assert "Traceback" not in done.stderr


def test_time_beside_reading_does_not_count() -> None:
    done = guarded(before="time.sleep(0.7)", after="time.sleep(0.7); return 4")
    assert (done.returncode, done.stderr) == (4, "")


def test_a_fault_that_no_file_explains_stays_one() -> None:
    done = guarded(before="os.kill(os.getpid(), signal.SIGSEGV)")
    assert done.returncode == -signal.SIGSEGV


def test_a_bug_is_told_as_one() -> None:
    done = guarded(before="raise ZeroDivisionError('mine')")
    assert done.returncode == 1
    assert "ZeroDivisionError: mine" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_program_reaches_the_command(
    tmp_path: Path, number: signal.Signals
) -> None:
    mark = tmp_path / "began"
    code = PROGRAM.format(
        before=f"Path({str(mark)!r}).touch(); time.sleep(60)", inside="pass", after="return 0"
    )
    # Of a session of its own: no terminal has told the child before.
    with subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE
    ) as program:
        end = time.monotonic() + 30
        while not mark.exists() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(program.pid, number)
        program.communicate(timeout=30)
    assert program.returncode in (-number, 1)
    assert program.returncode != 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of that")
def test_nothing_is_left_behind_when_the_program_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    inside = f"Path({str(mark)!r}).write_text(str(os.getpid())); ctypes.PyDLL(None).sleep(3600)"
    code = PROGRAM.format(before="pass", inside=inside, after="return 0").replace(
        "patience_s=0.5", "patience_s=3600"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as program:
        end = time.monotonic() + 30
        while not (mark.exists() and mark.read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        child = int(mark.read_text())
        program.kill()
    while Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < end:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        # Dead, and only not yet collected by whoever is left to do that.
        if state == "Z":
            break
        time.sleep(0.02)
    else:
        assert not Path(f"/proc/{child}").exists()


@pytest.mark.parametrize("command", [["inspect"], ["verify"], ["audit"], ["keys", "open-mark"]])
def test_commands_that_read_files_of_others_run_in_a_process_of_their_own(
    tmp_path: Path, command: list[str]
) -> None:
    run = example.finished_run(tmp_path / "run").path
    # Killed from inside, as a fault of C code would; where HDF5 opens a file of the run.
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal\n"
        "import clicooper_hpc.runstore.hdf5.reader as reader\n"
        "def fault(*_, **__):\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "reader.vet_hdf5_file = fault\n"
    )
    options = {
        "audit": ["--stage=0", "--quiet"],
        "open-mark": ["--stage=0", "--segment=1", "-o", str(tmp_path / "mark.json")],
    }.get(command[-1], [])
    done = subprocess.run(
        [sys.executable, "-m", "clicooper_hpc", *command, str(run), *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 2, done.stderr
    assert "run.h5: HDF5 ended the process (SIGSEGV)" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_that_ends_a_command_lets_it_tidy_up(name: str, tmp_path: Path) -> None:
    part = tmp_path / "out.part"
    before = (
        f"p = Path({str(part)!r}); p.touch()\n    try:\n        "
        f"os.kill(os.getppid(), signal.{name})\n"
        # What comes twice must not end the tidying up.
        f"        time.sleep(20)\n    finally:\n        os.kill(os.getpid(), signal.{name})\n"
        "        time.sleep(0.1); p.unlink()"
    )
    done = guarded(before=before)
    # As the signal alone would have ended it.
    assert done.returncode == -getattr(signal, name)
    assert done.stderr == f"clicooper: ended by {name}\n"
    assert not part.exists()

"""The command line: quick to build, every command answers --help, exit codes need no reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clicooper_hpc.cli import main

COMMANDS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[1] / "clicooper_hpc" / "commands").glob("*.py")
    if path.stem
    not in (
        "__init__",
        "command",
        "ending_signals",
        "first_line",
        "parser",
        "reading_guard",
        "run_folder_commands",
        "suggesting_parser",
    )
    and not path.stem.startswith(("plan_", "inspect_"))  # the reports of two of them
)


def test_the_parser_loads_no_library_that_takes_seconds() -> None:
    script = """
import sys
from clicooper_hpc.commands.parser import build_parser
build_parser().format_help()
slow = {"torch", "mpi4py", "h5py", "numpy", "pydantic", "cryptography"} & set(sys.modules)
sys.exit(f"loaded: {slow}" if slow else 0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_of_a_command_is_one_on_the_command_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: clicooper {command}" in capsys.readouterr().out


# One report each, with a code that is to come through whatever becomes of the text.
REPORTED = {
    "verify": "clicooper_hpc.verification.verification_report.verification_report",
    "audit": "clicooper_hpc.audit.report.report_audit",
    "inspect": "clicooper_hpc.commands.inspect.inspect_text",
    "attack": "clicooper_hpc.attacks.harness.run.attack_run",
}
SCRIPT = """
import importlib, sys
name, command, code = sys.argv[1:]
module, _, function = name.rpartition(".")
setattr(importlib.import_module(module), function, lambda *a, **k: ("line\\n" * 50000, int(code)))
from clicooper_hpc.cli import main
sys.exit(main([command, "RUN"]))
"""


def reported(command: str, code: int, output: str) -> tuple[int, str]:
    """Return exit code and standard error of a command whose output goes to ``output``."""
    arguments = [sys.executable, "-c", SCRIPT, REPORTED[command], command, str(code)]
    if output == "closed":
        arguments = ["sh", "-c", 'exec "$@" >&-', "sh", *arguments]
    if output == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full" if output == "full" else os.devnull, os.O_WRONLY)
    try:
        done = subprocess.run(
            arguments, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [("verify", 0), ("verify", 4), ("audit", 4), ("inspect", 75), ("attack", 5)],
)
def test_an_exit_code_does_not_depend_on_a_reader(command: str, code: int) -> None:
    # What it is loading is said before, and is no part of the report.
    loading = f"{command} RUN: loading libraries\n" if command in ("audit", "attack") else ""
    assert reported(command, code, "pipe") == (code, loading)


@pytest.mark.parametrize("output", ["full", "closed"])
def test_output_that_is_full_or_closed_hides_no_verdict(output: str) -> None:
    assert reported("verify", 4, output) == (4, "")


def test_a_good_report_that_cannot_be_written_is_an_error_of_the_environment() -> None:
    code, said = reported("verify", 0, "full")
    assert code == 5
    assert said.count("\n") == 1
    assert "standard output: the report cannot be written" in said
    # Whoever closes it asks for no text.
    assert reported("verify", 0, "closed") == (0, "")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_an_error_keeps_its_code_where_its_line_cannot_be_written(redirection: str) -> None:
    call = f'"{sys.executable}" -m clicooper_hpc inspect /nowhere {redirection}'
    assert subprocess.run(["sh", "-c", call], check=False, timeout=60).returncode == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("inspct run", "inspct: did you mean inspect?"),
        ("keys nw", "nw: did you mean new?"),
        ("export run --too onnx", "--too: did you mean --to?"),
        ("inspect run --besides other", "--besides: did you mean --beside?"),
        ("verify run --jsn", "--jsn: did you mean --json?"),
        ("data import npz a b --overwite", "--overwite: did you mean --overwrite?"),
        ("xyzzy", "invalid choice: 'xyzzy'"),
    ],
)
def test_what_was_mistyped_is_told_with_what_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed.split())
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert meant in err
    assert ("did you mean" in err) == ("did you mean" in meant)

"""The parser of all commands: quick to build, and every command answers --help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clicooper_hpc.cli import main

COMMANDS = sorted(
    path.stem
    for path in (Path(__file__).resolve().parents[1] / "clicooper_hpc" / "commands").glob("*.py")
    if path.stem not in ("__init__", "command", "plan_report", "reading_guard")
)


def test_the_parser_loads_no_library_that_takes_seconds() -> None:
    script = """
import sys
from clicooper_hpc.cli import build_parser
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

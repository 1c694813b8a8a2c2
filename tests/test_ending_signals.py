"""A signal that ends a command that writes: nothing half written is left, and the code is its."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.commands.parser import build_parser

#: Commands that write a file, without those that load a model or start ranks.
WRITERS = {
    "data import": "data import npz set.npz out.h5",
    "export one-file": "export run --to one-file -o out.h5",
    "export csv": "export run --to csv -o out",
    "report": "report run -o out.html",
    "keys new": "keys new out.pem",
    "schema": "schema -o out.json",
}
#: The first time that something written is made durable, whoever started the process ends it.
SITE = """
import os, signal, time
real, sent = os.fsync, []
def fsync(handle):
    if not sent:
        sent.append(handle)
        number = int(os.environ["ENDED_BY"])
        os.kill(int(os.environ["PARENT"] == "1" and os.getppid() or os.getpid()), number)
        ends = time.monotonic() + 60
        while signal.getsignal(number) != signal.SIG_IGN and time.monotonic() < ends:
            time.sleep(0.01)
    return real(handle)
os.fsync = fsync
"""


def is_guarded(words: list[str]) -> bool:
    return bool(build_parser().parse_args(words).guarded)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_half_written_is_left(name: str, tmp_path: Path) -> None:
    words = WRITERS[name].split()
    # One each for those that run in a process of their own and the others.
    number = signal.SIGHUP if name in ("schema", "report") else signal.SIGTERM
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    example.finished_run(tmp_path / "run")
    rows = np.zeros((30, 6), dtype=np.float32)
    labels = np.arange(30, dtype=np.int64) % 3
    np.savez(tmp_path / "set.npz", x_train=rows, y_train=labels, x_test=rows, y_test=labels)
    before = sorted(tmp_path.rglob("*"))
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "clicooper_hpc", *words],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "ENDED_BY": str(int(number)),
            "PARENT": str(int(is_guarded(words))),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == -number, done.stderr
    assert done.stderr.splitlines()[-1] == f"clicooper: ended by {number.name}"
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before

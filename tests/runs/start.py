"""Start a small digits job on real ranks, for the tests of whole runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mpirun import mpirun

from clicooper_hpc.runstore.reader import Run, open_run

__all__ = ["SMALL", "start", "train"]

#: 60 training samples in batches of 16: 3 steps and one short one per epoch; 20 more are released
#: for validation.
SMALL = """
[data]
path = "digits"
train_rows = 80
test_rows = 20
validation_rows = 20
[front]
kind = "random"
dim = 12
normalise = true
[privacy]
epsilon = 8.0
[labels]
expansion = 2
[model]
options = { widths = [16, 16] }
[pipeline]
micro_batches = 3
[training]
epochs = 2
batch_size = 16
[output]
record_wire = true
"""


def start(
    folder: Path, ranks: int, *overrides: str, text: str = SMALL, name: str = "run"
) -> subprocess.CompletedProcess[str]:
    """Run the job on ``ranks`` ranks into ``folder/name``; whatever happens is returned."""
    job = folder / "job.toml"
    job.write_text(text)
    settings = [part for override in overrides for part in ("--set", override)]
    args = ["-m", "clicooper_hpc", "run", str(job), "-o", str(folder / name), *settings]
    return mpirun(ranks, args, cwd=folder)


def train(folder: Path, ranks: int, *overrides: str, text: str = SMALL, name: str = "run") -> Run:
    """Run the job to its end and open it."""
    done = start(folder, ranks, *overrides, text=text, name=name)
    assert done.returncode == 0, done.stderr
    return open_run(folder / name)

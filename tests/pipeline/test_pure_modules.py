"""`plan` runs on login nodes: the planning modules need no torch, no MPI and no HDF5."""

from __future__ import annotations

import subprocess
import sys

MODULES = [
    "pipeline.schedule_grid",
    "training.batches",
    "training.events",
    "training.run_plan",
    "pipeline.partition",
    "training.learning_rate",
    "pipeline.schedule",
    "pipeline.simulator",
]


def test_planning_modules_import_nothing_heavy() -> None:
    imports = "; ".join(f"import clicooper_hpc.{name}" for name in MODULES)
    check = "import sys; print(sorted({'torch', 'mpi4py', 'h5py'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}; {check}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"

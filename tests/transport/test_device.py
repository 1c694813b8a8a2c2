"""Tensors on a CUDA device travel through page-locked host memory and are whole on arrival."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mpirun import mpirun

PROGRAM = Path(__file__).parent / "programs" / "device.py"


@pytest.mark.mpi
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_tensors_survive_staging() -> None:
    done = mpirun(1, [str(PROGRAM)])
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr

"""Test, in a child process, whether the MPI library takes GPU memory.

A child, because many libraries answer by crashing. Runs do not need it: messages are staged
through host memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from clicooper_hpc.transport.launcher import without_launcher

__all__ = ["try_gpu_memory"]

_LIMIT_S = 120.0
_ELEMENTS = 2**20


def try_gpu_memory() -> str:
    """Return "" if MPI carried GPU memory within one process, else what happened instead."""
    try:
        child = subprocess.run(
            [sys.executable, "-m", "clicooper_hpc.doctor.gpu_memory"],
            # The child is no rank of the job: with the launcher's variables MPI would wait for the
            # others.
            env=without_launcher(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    # Ended by a signal: libraries that cannot take GPU memory read it as host memory and crash.
    if child.returncode < 0:
        return signal.Signals(-child.returncode).name
    return "" if child.returncode == 0 else f"exit status {child.returncode}"


def _child() -> int:
    import torch

    from clicooper_hpc.transport.mpi_library import start_mpi

    world = start_mpi()
    sent = torch.arange(_ELEMENTS, device="cuda")
    received = torch.zeros_like(sent)
    torch.cuda.synchronize()
    # From this process to itself: whether MPI takes the pointers shows without a second rank.
    world.comms.job.Sendrecv(sent, 0, 0, received, 0, 0)
    torch.cuda.synchronize()
    return 0 if torch.equal(sent, received) else 1


if __name__ == "__main__":
    sys.exit(_child())

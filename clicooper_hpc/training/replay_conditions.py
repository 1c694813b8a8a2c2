"""Conditions of hardware and libraries under which a replay is equal to the bit.

Floating-point sums depend on their order, and the order on the processor, the libraries and the
number of threads (PyTorch's notes on reproducibility promise equal results for nothing less). So
an audit compares to the bit only where all of this is as it was, for every segment; elsewhere an
honest trainer would be accused.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from clicooper_hpc.digests import digest_bytes

__all__ = ["CONDITIONS", "differing_conditions", "replay_conditions"]

#: What `replay_conditions` describes.
CONDITIONS = ("arithmetic", "device", "libraries", "processor", "threads", "torch")

# Variables that change which instructions the math libraries pick, and so the order of sums.
_SWITCHES = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "CUBLAS_WORKSPACE_CONFIG")


def replay_conditions(device: torch.device) -> dict[str, str]:
    """Return what the bits of a result depend on in this process, for computing on ``device``.

    ``threads`` is the number set now: ask after ``torch.set_num_threads``.
    """
    flags = [
        f"deterministic={torch.are_deterministic_algorithms_enabled()}",
        f"matmul={torch.get_float32_matmul_precision()}",
        f"onednn={torch.backends.mkldnn.enabled}",
        *(f"{name}={os.environ[name]}" for name in _SWITCHES if name in os.environ),
    ]
    build = torch.__config__.show()
    name = "cpu"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        flags += [
            f"tf32={torch.backends.cuda.matmul.allow_tf32},{torch.backends.cudnn.allow_tf32}",
            f"benchmark={torch.backends.cudnn.benchmark}",
        ]
        build += f"cudnn {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
    return {
        "arithmetic": " ".join(flags),
        "device": name,
        # A digest: the text names compilers and flags on many lines, and only equality counts.
        "libraries": digest_bytes("clicooper/v1/libraries", build.encode()).hex[:16],
        "processor": f"{_processor_name()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
    }


def differing_conditions(run: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Say in which conditions a trainer's environment differs from that of the audit.

    Empty: a replay must be equal to the bit. A condition that the environment does not name counts
    as different.
    """
    return [
        f"{name}: {run.get(name, 'not recorded')} in the run, {here[name]} here"
        for name in CONDITIONS
        if run.get(name) != here[name]
    ]


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

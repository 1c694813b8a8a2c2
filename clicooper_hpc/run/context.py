"""What every rank knows when training starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.run_plan import Course
from clicooper_hpc.transport.world import World

__all__ = ["RunContext"]


@dataclass(frozen=True, slots=True)
class RunContext:
    """The agreed values of a run: the same on every rank, but for the device and own secrets.

    ``job_digest`` (hex) is that of the job the run began with, which is what is signed.
    """

    world: World
    job: Job
    job_digest: str
    folder: RunFolder
    run_id: str
    contract: Contract
    model: nn.Sequential
    layout: Layout
    course: Course
    device: torch.device
    signers: Signers | None
    stops: StopRequests

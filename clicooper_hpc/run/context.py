"""Context of a run: what every rank has agreed on when training starts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.run.stop_requests import StopRequests
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.checkpoint_writer import CheckpointWriter
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.rank_services import RankServices, Timeouts
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.stop_token import StopToken
from clicooper_hpc.transport.world import World

__all__ = ["RunContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Values a role is put together from: the same on every rank, but for what follows.

    Attributes
    ----------
    job_digest
        Of the job the run began with (hex), which is what is signed; a restart may carry out
        ``job`` with other time limits.
    model
        The whole network on the owner; a trainer holds the layers of its segment alone.
    device, writer, stops
        Of this rank.
    signers
        With this rank's secrets; None without provenance.
    """

    world: World
    job: Job
    job_digest: str
    folder: RunFolder
    run_id: str
    contract: Contract
    model: nn.Sequential
    layout: Layout
    plan: RunPlan
    device: torch.device
    signers: Signers | None
    stops: StopRequests
    writer: TableWriter

    def context_services(self) -> RankServices:
        """Open the stop token's channels and return what both roles use; once per rank."""
        pipeline, limits = self.job.pipeline, self.job.checkpoint
        # The owner alone looks for the file and at the clock: requests of other ranks travel back
        # to it with the last trainer's report, and one busy file server is asked by one rank.
        if self.world.rank == 0:
            minutes = limits.stop_after_min
            self.stops.watch_stop_file(self.folder.path, None if minutes is None else 60 * minutes)
        return RankServices(
            world=self.world,
            plan=self.plan,
            writer=self.writer,
            timeouts=Timeouts(pipeline.timeout_s, pipeline.startup_timeout_s),
            checkpoints=CheckpointWriter(
                self.world,
                self.folder.path,
                run_id=self.run_id,
                keep=limits.keep,
                # Not the limit of a step: every rank writes to the same file system, which may take
                # long.
                wait_s=pipeline.startup_timeout_s,
                identity=None if self.signers is None else self.signers.credentials.identity,
            ),
            stop_token=StopToken(
                self.world, self.stops.is_stop_requested, deadline_s=pipeline.startup_timeout_s
            ),
        )

"""The network of a run on all ranks: built alike, cut once, on a device of each rank's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import PeerError, UsageError
from clicooper_hpc.pipeline.device import choose_device
from clicooper_hpc.pipeline.layout import Layout, measured_layout_costs
from clicooper_hpc.pipeline.partition import check_partition
from clicooper_hpc.pipeline.schedule import check_schedule_depth
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.build import build_layout, build_network
from clicooper_hpc.run.owner_counts import parse_owner_counts
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.transport.world import World

__all__ = ["RunNetwork", "agree_on_network"]


@dataclass(frozen=True, slots=True)
class RunNetwork:
    """The whole network with its initial weights, its cuts, and where this rank computes."""

    model: nn.Sequential
    layout: Layout
    device: torch.device


def agree_on_network(
    world: World, job: Job, contract: Contract, recorded_cuts: Sequence[int] | None
) -> RunNetwork:
    """Build the network on every rank and cut it; collective.

    ``recorded_cuts``: where a run to restart was cut; None on a fresh start, which cuts as the job
    says.

    Raises
    ------
    AgreedFailure
        The job names a network or device that cannot be, or it cannot be cut for so many ranks.
    UsageError
        The recorded cuts do not fit the network.
    """
    startup_s = job.pipeline.startup_timeout_s
    model, device = agree(
        world, lambda: _model_and_device(world, job, contract), deadline_s=startup_s
    )
    if recorded_cuts is None:
        cuts = _agree_on_cuts(world, job, model, contract, device)
    else:
        cuts = list(check_partition(recorded_cuts, len(model), world.size - 1))
    # Every rank makes the layout anew from the cuts, so only numbers travel.
    layout = build_layout(job.cut_at(cuts), model, contract, world.size - 1)
    return RunNetwork(model, layout, device)


def _model_and_device(
    world: World, job: Job, contract: Contract
) -> tuple[nn.Sequential, torch.device]:
    check_schedule_depth(world.size - 1, job.pipeline.micro_batches)
    # The owner has little compute and no GPU: it only ever evaluates on the CPU.
    wish = "cpu" if world.rank == 0 else job.pipeline.device
    return build_network(job, contract), choose_device(wish, world.local_rank)


def _agree_on_cuts(
    world: World, job: Job, model: nn.Sequential, contract: Contract, device: torch.device
) -> list[int]:
    """Let the owner cut the network, by what the trainers measured if the job says so."""
    startup_s = job.pipeline.startup_timeout_s
    parts: list[bytes] | None = None
    if job.pipeline.partition == "auto":

        def measure() -> bytes:
            if world.rank == 0:
                return b""
            rows = -(-job.training.batch_size // job.pipeline.micro_batches)
            return measured_layout_costs(
                model, contract.release_shape, rows=rows, device=device
            ).tobytes()

        mine = agree(world, measure, deadline_s=startup_s)
        parts = world.gather_bytes(mine, limit_bytes=8 * len(model), deadline_s=startup_s)

    def cut() -> Layout | None:
        if world.rank:
            return None
        costs = None
        if parts is not None:
            # Here, where the ranks agree: a refusal ends all of them with one line.
            costs = _parse_layout_costs(parts[1:], layers=len(model), limit_s=startup_s)
        return build_layout(job, model, contract, world.size - 1, costs)

    # One rank cuts for all: measured times differ, and so would the cuts.
    layout = agree(world, cut, deadline_s=startup_s)
    payload = None if layout is None else json.dumps(layout.cuts).encode()
    shared = world.broadcast_bytes(payload, limit_bytes=2**16, deadline_s=startup_s)
    cuts = parse_owner_counts(shared, what="the cuts")
    try:
        return list(check_partition(cuts, len(model), world.size - 1))
    except UsageError as error:
        raise PeerError(error.what, where="message from rank 0 (control)") from None


def _parse_layout_costs(
    parts: Sequence[bytes], *, layers: int, limit_s: float
) -> NDArray[np.float64]:
    """Return what trainers 1, 2, ... measured, float64 [segments, layers], in seconds.

    Raises
    ------
    PeerError
        Names the first rank whose costs are not one number for each layer, or hold one that is not
        finite, below 0 or above ``limit_s``.
    """
    for rank, part in enumerate(parts, start=1):
        problem = None
        if len(part) != 8 * layers:
            problem = f"have {len(part)} bytes instead of {8 * layers}"
        else:
            seconds = np.frombuffer(part, dtype=np.float64)
            # All of it was measured within this limit, so no layer can have taken longer; and
            # sums of so small numbers cannot overflow.
            wrong = ~((seconds >= 0) & (seconds <= limit_s))
            if wrong.any():
                layer = int(wrong.argmax())
                problem = (
                    f"say {seconds[layer]:g} s for layer {layer}; 0 to {limit_s:g} s are possible"
                )
        if problem is not None:
            raise PeerError(
                f"the measured costs {problem}",
                where=f"message from rank {rank} (control)",
                remedy=f"Run one clicooper_hpc version on all ranks; else rank {rank} is at fault",
            )
    return np.stack([np.frombuffer(part, dtype=np.float64) for part in parts])

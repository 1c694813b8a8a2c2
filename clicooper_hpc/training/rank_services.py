"""Services of one rank that both roles use: messages, files, time limits, checkpoints, stop."""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.checkpoint_writer import CheckpointWriter
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.stop_token import StopToken
from clicooper_hpc.transport.world import World

__all__ = ["EVALUATED_BYTES", "RankServices", "Timeouts"]

#: Length of the owner's broadcast that a delivery has been evaluated.
EVALUATED_BYTES = 16
#: What it takes to end all ranks: Open MPI's launcher lets one second pass before it kills them.
_TURN_S = 2.0


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits in seconds.

    ``step_s`` for a message of a step, once the first step is done; ``slow_s`` before that
    (libraries load, kernels are chosen) and for an evaluation.
    """

    # Two limits, for one that fits loading would leave a hung rank unnoticed for as long.
    step_s: float
    slow_s: float

    def timeout_of_rank(self, rank: int, ranks: int) -> float:
        """Return ``step_s`` for one rank, a little longer from rank to rank and for the owner most.

        All ranks wait for a hung one in the end; so one of its neighbours reports first, and the
        others are ended before they say the same.
        """
        return self.step_s + _TURN_S * (rank or ranks)


@dataclass(frozen=True, slots=True)
class RankServices:
    """Objects of one rank that owner and trainers use alike.

    ``writer`` writes this rank's tables, ``checkpoints`` its part of a checkpoint; ``stop_token``
    says before each step whether the run continues.
    """

    world: World
    plan: RunPlan
    writer: TableWriter
    timeouts: Timeouts
    checkpoints: CheckpointWriter
    stop_token: StopToken

    def tighten_deadline(self) -> None:
        """Wait for messages of a step as `Timeouts.step_s` says from now on."""
        world = self.world
        world.set_deadline(self.timeouts.timeout_of_rank(world.rank, world.size))

"""What both roles need to save and to stop."""

from __future__ import annotations

from clicooper_hpc.run.context import RunContext
from clicooper_hpc.training.checkpoint import CheckpointWriter
from clicooper_hpc.training.stop import StopToken

__all__ = ["saver_of", "stop_line_of"]


def saver_of(scene: RunContext) -> CheckpointWriter:
    """Return this rank's part in the checkpoints."""
    return CheckpointWriter(
        scene.world,
        scene.folder.path,
        run_id=scene.run_id,
        keep=scene.job.checkpoint.keep,
        wait_s=scene.job.pipeline.startup_timeout_s,
    )


def stop_line_of(scene: RunContext) -> StopToken:
    """Return this rank's place in the chain that stops the run."""
    if scene.world.rank == 0:
        minutes = scene.job.checkpoint.stop_after_min
        scene.stops.watch(scene.folder.path, None if minutes is None else 60 * minutes)
    return StopToken(
        scene.world, scene.stops.asked, deadline_s=scene.job.pipeline.startup_timeout_s
    )

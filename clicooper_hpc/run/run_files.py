"""Opens the files of a run on all ranks, new or continued: first the index, then every table."""

from __future__ import annotations

from collections.abc import Callable

from clicooper_hpc.config.job import Job
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.runstore.tables.single_writer import SingleWriter
from clicooper_hpc.runstore.tables.writer import KeptRows, TableWriter
from clicooper_hpc.transport.world import World

__all__ = ["open_run_files"]


def open_run_files(
    world: World,
    job: Job,
    folder: RunFolder,
    *,
    run_id: str,
    kept: KeptRows | None,
    prepare_index: Callable[[], None],
) -> TableWriter:
    """Open the file this rank writes its tables to; collective.

    Parameters
    ----------
    kept
        Rows of an interrupted run that the tables begin with; None makes new files.
    prepare_index
        Makes or continues the index where there is an owner; called before any table is opened.

    Raises
    ------
    AgreedFailure
        A file is there already, cannot be written, or ``output.layout = "single"`` lacks parallel
        HDF5 on some rank.
    """
    startup_s = job.pipeline.startup_timeout_s
    single = job.output.layout == "single"

    def index() -> None:
        if single:
            # On every rank, for in the opening all would wait for one that cannot take part.
            require_parallel_hdf5()
        prepare_index()

    def tables() -> TableWriter:
        mine = OWNER_TABLES if world.rank == 0 else TRAINER_TABLES
        if single:
            return SingleWriter(
                folder.index, mine, rank=world.rank, communicator=world.comms.job, earlier=kept
            )
        # What a reader compares with the index: a shard of another run or rank does not pass.
        attributes: dict[str, str | int | float | bool] = {"run_id": run_id, "rank": world.rank}
        return ShardWriter(folder.shard(world.rank), mine, attributes, earlier=kept)

    # Two steps: the single file is opened by all, so rank 0 must have made it before.
    agree(world, index, deadline_s=startup_s)
    return agree(world, tables, deadline_s=startup_s)

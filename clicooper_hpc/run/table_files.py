"""Opens the file a rank writes its tables to, new or continued, in either layout of a run."""

from __future__ import annotations

from clicooper_hpc.config.job import Job
from clicooper_hpc.runstore.buffer import KeptRows, TableWriter
from clicooper_hpc.runstore.folder import RunFolder
from clicooper_hpc.runstore.single import SingleWriter, require_parallel_hdf5
from clicooper_hpc.runstore.tables import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.runstore.writer import ShardWriter
from clicooper_hpc.transport.world import World

__all__ = ["check_table_layout", "open_table_file"]


def check_table_layout(job: Job) -> None:
    """Raise `EnvironmentUnfitError` if this rank cannot write the layout of the job.

    On every rank, before `open_table_file`: in a collective opening all would wait for one rank
    that cannot take part.
    """
    if job.output.layout == "single":
        require_parallel_hdf5()


def open_table_file(
    world: World, job: Job, folder: RunFolder, run_id: str, kept: KeptRows | None
) -> TableWriter:
    """Open this rank's file; collective in layout "single".

    ``kept``: rows of an interrupted run that the file begins with; None makes a new file.

    Raises
    ------
    RunFolderError
        A new file is there already.
    EnvironmentUnfitError
        The file cannot be written.
    """
    tables = OWNER_TABLES if world.rank == 0 else TRAINER_TABLES
    if job.output.layout == "single":
        return SingleWriter(
            folder.index, tables, rank=world.rank, communicator=world.comms.job, earlier=kept
        )
    # What a reader compares with the index: a shard of another run or rank does not pass.
    attributes: dict[str, str | int | float | bool] = {"run_id": run_id, "rank": world.rank}
    return ShardWriter(folder.shard(world.rank), tables, attributes, earlier=kept)

"""Programs that tests start as processes of their own: ``runstore_jobs.py NAME FOLDER ARG``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

# A program of its own: helpers of the tests lie one folder up.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import runstore_example as example

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.runstore.index import create_index
from clicooper_hpc.runstore.index_end import complete_index, finish_index
from clicooper_hpc.runstore.run_folder import RunFolder, create_run_folder
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter


def write_forever(folder: Path, flush_rows: int) -> None:
    """Write rank 1's shard, saying after each step how many rows are stored, until killed."""
    writer = ShardWriter(
        RunFolder(folder).shard(1),
        example.tables_by_rank()[1],
        example.shard_attributes(1),
        flush_rows=flush_rows,
    )
    step = 0
    while True:
        example.write_steps(writer, 1, range(step, step + 1))
        step += 1
        print(writer.rows_written["steps"], flush=True)


def fill_disk(folder: Path, ending: str) -> None:
    """Write until the disk is full, then end as a real program would: report and return."""
    writer = ShardWriter(
        RunFolder(folder).shard(1),
        example.tables_by_rank()[1],
        example.shard_attributes(1),
        flush_rows=8,
    )
    try:
        with writer:
            example.write_steps(writer, 1, range(10**6))
    except ClicooperError as error:
        print(writer.rows_written["steps"])
        print(error.line())
        if ending == "exit":
            sys.exit(error.exit_code)
        try:
            writer.append("steps", example.step_row(1, 0))
        except ClicooperError as again:
            print(again.line())


def share_one_file(folder: Path, ending: str) -> None:
    """All ranks write one file; with ``ending`` "kill" rank 1 is killed in its sixth step."""
    from mpi4py import MPI

    from clicooper_hpc.runstore.tables.single_writer import SingleWriter

    world = MPI.COMM_WORLD
    tables = example.tables_by_rank(world.size)
    place = RunFolder(folder)
    if world.rank == 0:
        create_run_folder(folder)
        create_index(
            place.index,
            example.header(world.size, "single"),
            tables=tables,
            rows={
                **{table.name: 1 for some in tables.values() for table in some},
                "steps": 8,
                "training": 8,
                "evaluation": 2,
                "releases": 2,
            },
            pipeline=example.PIPELINE,
            privacy=example.PRIVACY,
        )
    world.Barrier()
    with SingleWriter(
        place.index, tables[world.rank], rank=world.rank, communicator=world, flush_rows=1
    ) as writer:
        if ending == "kill":
            example.write_steps(writer, world.rank, range(5))
            world.Barrier()
            if world.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        # Ranks record different numbers of rows: nothing about an append may be collective.
        example.write_steps(writer, world.rank, range(8 - world.rank))
        if world.rank == 0:
            example.write_owner_events(writer)
    world.Barrier()
    if world.rank == 0:
        finish_index(place.index, results=example.RESULTS)
        complete_index(place.index)


if __name__ == "__main__":
    name, where, *rest = sys.argv[1:]
    if name == "write_forever":
        write_forever(Path(where), int(rest[0]))
    elif name == "fill_disk":
        fill_disk(Path(where), rest[0])
    elif name == "share_one_file":
        share_one_file(Path(where), rest[0])

"""The index ``run.h5`` at the end of a run: with results, then whole and complete.

`finish_index` adds results and digests of all shards; the index still leads to the ranks' tables.
`complete_index` is the last act of a run: it puts the tables themselves into the index, so that any
program reads it by itself, and says that the run is complete. `write_one_file` gives a file of the
same form of any run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore.hdf5.files import create_hdf5_file, set_hdf5_attributes
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.typed import read_hdf5_attributes
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    RunResult,
    StoredTables,
    compose_index_end,
    compose_whole_index,
    index_header_of,
    index_layout_of,
    index_libver,
    index_shard_digest,
)
from clicooper_hpc.runstore.index_links import INDEX_LINKS
from clicooper_hpc.runstore.new_output import check_new_output
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES

__all__ = [
    "complete_index",
    "compose_whole_run",
    "finish_index",
    "known_results",
    "known_tables",
    "run_tables",
    "stored_results",
    "write_one_file",
]


def finish_index(
    path: Path, *, results: Mapping[str, RunResult], privacy: PrivacyText | None = None
) -> None:
    """Add results to the index of a run whose ranks have all closed their writers; rank 0 only.

    The index is rewritten whole and replaced in one step. The digest of every shard is noted, so
    that a shard exchanged later is noticed (`Run.changed_ranks`). The run is not complete yet.

    Raises
    ------
    RunFolderError
        The index is missing or damaged.
    EnvironmentUnfitError
        No space; the index stays as it was.
    """
    attrs = read_hdf5_file(path, read_hdf5_attributes, rules=INDEX_LINKS)
    layout = index_layout_of(attrs)
    count = int(attrs["num_ranks"])
    with create_hdf5_file(path, index_libver(layout), start=path) as file:
        digests = None
        if layout == "shards":
            folder = RunFolder(path.parent)
            digests = [index_shard_digest(folder.shard(rank)) for rank in range(count)]
        compose_index_end(file, results=results, privacy=privacy, shard_digests=digests)


def complete_index(path: Path) -> None:
    """Put the tables of all ranks into a finished index, and say that the run is complete.

    Rank 0 only. Atomic: until the very end the index is the one that leads to the ranks' files.

    Raises
    ------
    RunFolderError
        The index or the file of a rank is damaged. One that is missing is left out.
    EnvironmentUnfitError
        No space; the index stays as it was.
    """
    run = open_run(path.parent)
    with create_hdf5_file(path) as file:
        compose_whole_run(file, run, run_tables(run), stored_results(run))
        # Everything else is in the file by now: "complete" is true when it is written.
        set_hdf5_attributes(file, {"status": "complete"})


def write_one_file(run: Run, path: Path) -> None:
    """Write all of ``run`` that is no secret into the new file ``path``, which needs no other.

    Of a run that goes on or was left by a kill, what was stored so far.

    Raises
    ------
    UsageError
        Another ending, something at ``path``, no folder for it, or a run folder.
    RunFolderError
        The file of a rank is damaged or missing.
    EnvironmentUnfitError
        It cannot be written; nothing is left then.
    """
    if path.suffix.lower() not in (".h5", ".hdf5", ".nc"):
        raise UsageError("must end in .h5, .hdf5 or .nc for --to one-file", where=f"-o {path}")
    check_new_output(path)
    if run.missing_ranks:
        names = ", ".join(run.folder.shard(rank).name for rank in run.missing_ranks)
        raise RunFolderError(
            f"{names} missing, and one file of a run is of all its ranks",
            where=str(run.folder.path),
            remedy="Bring the file back from where it was moved.",
        )
    tables = run_tables(run)
    with create_hdf5_file(path, foreign_folder=True) as file:
        compose_whole_run(file, run, tables, stored_results(run))


def run_tables(run: Run) -> dict[int, StoredTables]:
    """Return the tables of every rank whose file is there, as the run wrote them.

    Raises
    ------
    RunFolderError
        The file of a rank is damaged.
    """
    return {rank: known_tables(run, rank) for rank in run.ranks if rank not in run.missing_ranks}


def known_tables(run: Run, rank: int) -> StoredTables:
    """Return the tables that ``rank`` writes, and of each the columns it has; no others.

    Raises
    ------
    RunFolderError
        The file of ``rank`` is missing or damaged.
    """
    rows = {table.name: columns for table, columns in run.stored_rows(rank).items()}
    return {
        table: {column.name: rows[table.name][column.name] for column in table.columns}
        for table in (TRAINER_TABLES if rank else OWNER_TABLES)
        if table.name in rows
    }


def stored_results(run: Run) -> dict[str, RunResult]:
    """Return the results of ``run`` as they stand in its index."""
    return {
        name: RunResult(value, run.result_units[name], run.result_names[name])
        for name, value in run.results.items()
    }


def known_results(run: Run) -> dict[str, RunResult]:
    """Return the results of ``run`` that runs of this version have, with their own long names."""
    return {
        # Units and long name are not the file's to say.
        name: RunResult(run.results[name], *RESULT_FIGURES[name])
        for name in run.results.keys() & RESULT_FIGURES.keys()
    }


def compose_whole_run(
    file: Any, run: Run, tables: Mapping[int, StoredTables], results: Mapping[str, RunResult]
) -> None:
    """Fill the empty ``file`` with what the index of ``run`` says and ``tables`` by rank."""
    content = run.index_content()
    compose_whole_index(
        file,
        index_header_of(run.attrs, run.hosts, more_restarts=0),
        rows=tables,
        pipeline=PipelineText(
            tuple(int(cut) for cut in content.cuts), content.schedule, tuple(content.layer_names)
        ),
        privacy=PrivacyText(content.privacy, content.promised),
    )
    # What is written at the end, and at once: all of it or nothing.
    if run.status == "complete" or results:
        compose_index_end(
            file,
            results=results,
            privacy=PrivacyText(content.privacy, content.card),
            shard_digests=run.shard_digests or None,
        )
    set_hdf5_attributes(file, {"status": run.status})

"""What ``run.h5`` and the ranks' files must look like, made by the code that writes them.

A signed digest covers the values of a run's tables and index. A reader relies on more: that a link
leads to the rows that were signed, a view shows them, a column has the units it says. So the files
are composed again in memory, from the values read, and their outlines are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import h5py
import numpy as np

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.files import LIBVER, Attribute, set_hdf5_attributes
from clicooper_hpc.runstore.hdf5.outline import hdf5_outline, outline_differences
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file, unopened_file
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    compose_index,
    compose_index_end,
    index_header_of,
)
from clicooper_hpc.runstore.index_end import compose_whole_run, known_results, known_tables
from clicooper_hpc.runstore.index_links import INDEX_LINKS
from clicooper_hpc.runstore.reader import Run, open_run_inside
from clicooper_hpc.runstore.tables.schema import (
    COMPLETE,
    OWNER_TABLES,
    STEPS,
    TRAINER_TABLES,
    Table,
)
from clicooper_hpc.runstore.tables.shard_writer import SHARD_ATTRIBUTES
from clicooper_hpc.runstore.tables.storage import create_stored_table

__all__ = ["index_differences", "shard_differences"]

#: As long as a digest; which one it must be, the files say.
_ANY_DIGEST: Final = "0" * 64
#: Above, an index is composed only if the file is as large as that of so many ranks.
_MANY_RANKS: Final = 64


def index_differences(run: Run, *, finished: bool) -> list[str]:
    """Return how ``run.h5`` departs from what this version writes for the values it holds.

    ``finished``: results must be there, as of a run that came to its end.

    Raises
    ------
    RunFolderError
        The index is missing or damaged.
    """
    if run.status == "complete":
        return _whole_differences(run)

    def compare(file: Any) -> list[str]:
        rows = None
        if run.attrs.get("layout") == "single":
            # Before tables of so many ranks are composed: the file may name more than it has.
            for rank in run.ranks:
                if lacking := _lacking_tables(file, rank):
                    return lacking
            rows = _stored_lengths(file)
        elif len(run.ranks) > _MANY_RANKS and (lacking := _lacking_ranks(file, len(run.ranks))):
            return lacking
        try:
            expected = _expected_index(run, rows, finished=finished)
        # A text or number of the header that is not there, or is none.
        except (KeyError, TypeError, ValueError) as error:
            return [f"/ lacks an attribute of a run ({error})"]
        return outline_differences(file, expected)

    return read_hdf5_file(run.folder.index, compare, rules=INDEX_LINKS)


def _whole_differences(run: Run) -> list[str]:
    """Return how the index of a complete run departs from one with the rows of all ranks in it."""
    tables = {}
    if not run.shard_digests and run.attrs.get("layout") != "single":
        # Every run of several files has them; what they must be is for the reader to say.
        run = replace(run, shard_digests=("",) * len(run.hosts))
    inside = open_run_inside(run.folder)
    for rank in run.ranks:
        # A rank whose file cannot be read fails the checks of what was in it. What the index says
        # of it can then only be compared with itself.
        for source in (run, inside):
            with suppress(RunFolderError):
                tables[rank] = known_tables(source, rank)
                break

    def compare(file: Any) -> list[str]:
        try:
            with _in_memory() as mine:
                compose_whole_run(mine, run, tables, known_results(run))
                expected = hdf5_outline(mine, values=True)
        # A text or number of the header that is not there, or is none.
        except (KeyError, TypeError, ValueError) as error:
            return [f"/ lacks an attribute of a run ({error})"]
        return outline_differences(file, expected, values=True)

    return read_hdf5_file(run.folder.index, compare, rules=INDEX_LINKS)


def shard_differences(run: Run, rank: int, *, finished: bool) -> list[str]:
    """Return how the file of ``rank`` departs from what this version writes.

    ``finished``: every row must be complete, and every column have as many.

    Raises
    ------
    RunFolderError
        The file is missing or damaged.
    """
    tables = TRAINER_TABLES if rank else OWNER_TABLES
    attrs: dict[str, Attribute] = {
        **SHARD_ATTRIBUTES,
        "run_id": str(run.attrs.get("run_id")),
        "rank": rank,
    }

    def compare(file: Any) -> list[str]:
        with _in_memory() as mine:
            set_hdf5_attributes(mine, attrs)
            expected = hdf5_outline(mine)
        for table in tables:
            lengths = _column_lengths(file, table, finished=finished)
            expected |= _expected_table(table, lengths)
        return outline_differences(file, expected)

    path = run.folder.shard(rank)
    try:
        return read_hdf5_file(path, compare)
    except PermissionError as error:
        raise unopened_file(path, error) from None


def _expected_index(run: Run, rows: Mapping[str, int] | None, *, finished: bool) -> dict[str, str]:
    header = index_header_of(run.attrs, run.hosts, more_restarts=0)
    cuts = tuple(int(cut) for cut in run.pipeline.get("cuts", ()))
    pipeline = PipelineText(
        cuts, str(run.pipeline.get("schedule", "")), tuple(run.pipeline.get("layer_names", ()))
    )
    privacy = dict(run.privacy)
    card, promised = (str(privacy.pop(name, "")) for name in ("text", "promised"))
    results = known_results(run)
    trainers = dict.fromkeys(range(1, len(run.hosts)), TRAINER_TABLES)
    with _in_memory() as file:
        compose_index(
            file,
            header,
            tables={0: OWNER_TABLES, **trainers},
            rows=rows,
            pipeline=pipeline,
            privacy=PrivacyText(privacy, promised),
            allocate=False,
        )
        # What is written at the end, and at once: all of it or nothing.
        if finished or results:
            digests = None if rows is not None else [_ANY_DIGEST] * len(run.hosts)
            compose_index_end(
                file, results=results, privacy=PrivacyText(privacy, card), shard_digests=digests
            )
        # Whether the run is complete is for its own check to say.
        set_hdf5_attributes(file, {"status": str(run.attrs.get("status", "complete"))})
        return hdf5_outline(file)


# The same for the owner and for all trainers of a run, but for their numbers of rows.
@lru_cache(maxsize=64)
def _expected_table(table: Table, lengths: tuple[int, ...]) -> dict[str, str]:
    """Return the outline of ``table`` with so many values of every column, the marker last."""
    with _in_memory() as file:
        group = create_stored_table(file, table, live=False)
        for column, length in zip((*table.columns, COMPLETE), lengths, strict=True):
            group[column.name].resize(length, axis=0)
        # Without the root, whose attributes are the file's.
        return {place: line for place, line in hdf5_outline(file).items() if place[1] != "@"}


def _column_lengths(file: Any, table: Table, *, finished: bool) -> tuple[int, ...]:
    """Return the lengths that the columns of ``table`` must have, the marker last."""
    names = [column.name for column in (*table.columns, COMPLETE)]
    group = file.get(table.name)
    found = {
        name: len(group[name])
        for name in names
        if isinstance(group, h5py.Group)
        and isinstance(group.get(name), h5py.Dataset)
        and group[name].ndim
    }
    if not finished:
        # A kill leaves columns with rows that nobody counts.
        return tuple(found.get(name, 0) for name in names)
    complete = 0
    if COMPLETE.name in found:
        complete = int(np.count_nonzero(group[COMPLETE.name][:] == 1))
    return (complete,) * len(names)


def _stored_lengths(file: Any) -> dict[str, int]:
    """Return the rows each table of a single file was made for."""
    lengths: dict[str, int] = {}
    for rank, tables in ((0, OWNER_TABLES), (1, TRAINER_TABLES)):
        for table in tables:
            place = _own_item(file, f"ranks/{rank:03d}/{table.name}/{table.axis}")
            shape = place.shape if isinstance(place, h5py.Dataset) else None
            lengths[table.name] = shape[0] if shape else 0
    return lengths


def _lacking_tables(file: Any, rank: int) -> list[str]:
    """Return what a single file lacks of the tables of ``rank``, seen by their numbers of names."""
    lacking = []
    for table in TRAINER_TABLES if rank else OWNER_TABLES:
        place = f"ranks/{rank:03d}/{table.name}"
        group = _own_item(file, place)
        if not isinstance(group, h5py.Group):
            lacking.append(f"/{place} is missing")
        elif len(group) <= len(table.columns):
            lacking.append(f"/{place} lacks columns")
    return lacking


def _lacking_ranks(file: Any, count: int) -> list[str]:
    """Return what an index lacks of ``count`` ranks with shards, seen by its numbers of names."""
    links = _own_item(file, "ranks")
    if not isinstance(links, h5py.Group) or len(links) < count:
        return [f"/ranks names fewer than {count} ranks"]
    lacking = []
    for column in (*STEPS.columns, COMPLETE):
        # Views of these two are of one rank.
        if column.name not in (STEPS.axis, "epoch"):
            view = _own_item(file, f"metrics/{column.name}")
            is_view = isinstance(view, h5py.Dataset) and view.is_virtual
            # Not by `virtual_sources`: that asks for the space.
            if not is_view or view.id.get_create_plist().get_virtual_count() < count:
                lacking.append(f"/metrics/{column.name} is no view of {count} ranks")
    return lacking


def _own_item(file: Any, path: str) -> Any:
    """Return what lies at ``path`` in the very file, or None: no link of the index is followed."""
    found = file
    for name in path.split("/"):
        is_own = isinstance(found, h5py.Group) and isinstance(
            found.get(name, getlink=True), h5py.HardLink
        )
        if not is_own:
            return None
        found = found[name]
    return found


@contextmanager
def _in_memory() -> Iterator[Any]:
    with h5py.File(
        "outline.memory", "w", driver="core", backing_store=False, libver=LIBVER, locking=False
    ) as file:
        yield file

"""The index ``run.h5``, the file users open: what ran where, links to every rank's tables or these.

It is written whole, aside and renamed: at the start (`create_index`), at a restart with its number
(`note_index_restart`), and at the end with the results (`index_end.finish_index`). Of a complete
run the ranks' tables are in it instead of links to them (`index_end.complete_index`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from clicooper_hpc.digests import digest_chunks
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.runstore.hdf5.files import (
    LIBVER,
    SINGLE_LIBVER,
    Attribute,
    add_hdf5_dataset,
    create_hdf5_file,
    set_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.parallel import require_parallel_hdf5
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.typed import read_hdf5_attributes
from clicooper_hpc.runstore.index_links import INDEX_LINKS, OWNER_LINKS
from clicooper_hpc.runstore.limits import MOST_RANKS
from clicooper_hpc.runstore.metrics import Layout, add_metrics, copy_metrics
from clicooper_hpc.runstore.regular_files import open_regular_file
from clicooper_hpc.runstore.run_folder import shard_file_name
from clicooper_hpc.runstore.tables.schema import STEPS, TRAINING, Table
from clicooper_hpc.runstore.tables.storage import Rows, copy_stored_table, create_stored_table

__all__ = [
    "RUN_FORMAT",
    "RUN_VERSION",
    "PipelineText",
    "PrivacyText",
    "RunHeader",
    "RunResult",
    "Status",
    "compose_index",
    "compose_index_end",
    "compose_whole_index",
    "create_index",
    "index_header_of",
    "index_layout_of",
    "index_libver",
    "index_shard_digest",
    "index_text_names",
    "note_index_restart",
]

#: Tables of one rank and their rows.
StoredTables = Mapping[Table, Rows]

RUN_FORMAT = "clicooper-run"
RUN_VERSION = 2
Status = Literal["complete", "incomplete"]

#: Root attributes that are texts of the header.
_TEXTS = (
    "run_id",
    "created",
    "creator_version",
    "git_commit",
    "resolved_job",
    "job_digest",
    "mpi_library",
)


def index_text_names() -> tuple[str, ...]:
    """Return the root attributes that are texts of the header; every index has them."""
    return _TEXTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What is known of a run before its first step; becomes the root attributes.

    ``resolved_job`` is the whole job as JSON or TOML text, ``created`` an ISO 8601 time in UTC,
    ``versions`` maps libraries to versions, ``hosts[rank]`` is the host of each rank, at the first
    start; ``restarts`` counts the later ones.
    """

    run_id: str
    created: str
    creator_version: str
    git_commit: str
    layout: Layout
    resolved_job: str
    job_digest: str
    mpi_library: str
    versions: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...]
    restarts: int = 0

    def attributes(self) -> dict[str, Attribute]:
        """Return the root attributes, ``versions`` spread as ``NAME_version``."""
        return {
            # What netCDF and NeXus readers look for: a name of these rules, and what to plot.
            "Conventions": f"{RUN_FORMAT}-{RUN_VERSION}",
            "NX_class": "NXroot",
            "default": "metrics",
            "format": RUN_FORMAT,
            "format_version": RUN_VERSION,
            "status": "incomplete",
            "run_id": self.run_id,
            "created": self.created,
            "creator": "clicooper-hpc",
            "creator_version": self.creator_version,
            "git_commit": self.git_commit,
            "layout": self.layout,
            "resolved_job": self.resolved_job,
            "job_digest": self.job_digest,
            "mpi_library": self.mpi_library,
            "num_ranks": len(self.hosts),
            "restarts": self.restarts,
            **{f"{name}_version": version for name, version in self.versions.items()},
        }


def index_header_of(
    attrs: Mapping[str, Attribute], hosts: Sequence[str], *, more_restarts: int
) -> RunHeader:
    """Return the header that an index was made with, from its root attributes."""
    own = {name: str(attrs[name]) for name in _TEXTS}
    return RunHeader(
        **own,
        layout=index_layout_of(attrs),
        versions={
            name.removesuffix("_version"): str(value)
            for name, value in attrs.items()
            if name.endswith("_version") and name not in ("format_version", "creator_version")
        },
        hosts=tuple(hosts),
        restarts=int(attrs["restarts"]) + more_restarts,
    )


def note_index_restart(path: Path, restarts: int) -> None:
    """Write how often the run has been started again; rank 0 only, while nobody writes the index.

    Raises
    ------
    RunFolderError
        The index is missing or damaged.
    EnvironmentUnfitError
        No space; the index stays as it was.
    """
    attrs = read_hdf5_file(path, read_hdf5_attributes, rules=INDEX_LINKS)
    with create_hdf5_file(path, index_libver(index_layout_of(attrs)), start=path) as file:
        set_hdf5_attributes(file, {"restarts": restarts})


@dataclass(frozen=True, slots=True)
class PipelineText:
    """How the network was cut: ``cuts[i]`` is the first layer of segment i + 1."""

    cuts: tuple[int, ...]
    schedule: str
    layer_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrivacyText:
    """The privacy card: its entries, and as the text that was printed.

    What `create_index` is given stays there as ``privacy/promised``, whatever becomes of the card.
    """

    card: Mapping[str, Attribute]
    text: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """One figure a run ends with."""

    value: float | int | str
    units: str
    long_name: str


def create_index(
    path: Path,
    header: RunHeader,
    *,
    tables: Mapping[int, Sequence[Table]],
    rows: Mapping[str, int] | None = None,
    pipeline: PipelineText | None = None,
    privacy: PrivacyText | None = None,
) -> None:
    """Write the index of a new run; rank 0 only, before the other ranks open their writers.

    Parameters
    ----------
    path
        ``run.h5``.
    tables
        The tables each rank will write.
    rows
        Layout "single" only: the final number of rows of each table, by its name.

    Raises
    ------
    RunFolderError
        There is an index already.
    UsageError
        It has more ranks than a reader takes.
    EnvironmentUnfitError
        The file cannot be written, or layout "single" is asked of an h5py without MPI.
    """
    # Views over ranks are by number: a gap would shift all behind it.
    if sorted(tables) != list(range(len(header.hosts))):
        raise ValueError("tables and hosts must name the same ranks, from 0 on")
    if len(tables) > MOST_RANKS:
        # No reader would open it.
        raise UsageError(f"a run has at most {MOST_RANKS} ranks, not {len(tables)}")
    if header.layout == "single":
        require_parallel_hdf5()
        if rows is None:
            raise ValueError('layout "single" needs the number of rows of every table')
    # A run folder holds what was paid for in privacy: it is never written over.
    if path.exists():
        raise RunFolderError(
            "there is a run already, and a run is never overwritten",
            where=str(path),
            remedy="Choose another folder with -o.",
        )
    with create_hdf5_file(path, index_libver(header.layout)) as file:
        compose_index(file, header, tables=tables, rows=rows, pipeline=pipeline, privacy=privacy)


def compose_index(
    file: Any,
    header: RunHeader,
    *,
    tables: Mapping[int, Sequence[Table]],
    rows: Mapping[str, int] | None,
    pipeline: PipelineText | None,
    privacy: PrivacyText | None,
    allocate: bool = True,
) -> None:
    """Fill the empty ``file`` as `create_index` does; ``allocate``: with room for all rows."""
    _add_index_header(file, header)
    for number, some in tables.items():
        if header.layout == "shards":
            # Links by relative name: the folder may be moved or copied as a whole.
            file[f"ranks/{number:03d}"] = h5py.ExternalLink(shard_file_name(number), "/")
        else:
            group = file.create_group(f"ranks/{number:03d}")
            for table in some:
                create_stored_table(group, table, rows=(rows or {})[table.name], allocate=allocate)
    add_metrics(file, tables, layout=header.layout, rows=rows)
    _add_index_rest(file, [table.name for table in tables[0]], pipeline, privacy)


def compose_whole_index(
    file: Any,
    header: RunHeader,
    *,
    rows: Mapping[int, StoredTables],
    pipeline: PipelineText | None,
    privacy: PrivacyText | None,
) -> None:
    """Fill the empty ``file`` as that of a complete run: with the rows of all ranks in it.

    No other file is needed, and there is nothing in it that leads to another. Ranks that are not
    in ``rows`` have no tables in it.
    """
    _add_index_header(file, header)
    groups = file.create_group("ranks")
    metrics: dict[str, dict[int, Rows]] = {STEPS.name: {}, TRAINING.name: {}}
    for rank, tables in rows.items():
        group = groups.create_group(f"{rank:03d}")
        for table, columns in tables.items():
            if table.name in metrics:
                metrics[table.name][rank] = columns
            copy_stored_table(group, table, columns)
    copy_metrics(file, metrics[STEPS.name], metrics[TRAINING.name], ranks=len(header.hosts))
    _add_index_rest(file, [table.name for table in rows.get(0, ())], pipeline, privacy)


def _add_index_header(file: Any, header: RunHeader) -> None:
    set_hdf5_attributes(file, header.attributes())
    ranks = np.arange(len(header.hosts))
    rank = add_hdf5_dataset(
        file, "rank", ranks, units="1", long_name="Rank: 0 owner, then trainers"
    )
    rank.make_scale("rank")
    hosts = list(header.hosts)
    add_hdf5_dataset(file, "hosts", hosts, units="text", long_name="Host of each rank", axis=rank)


def _add_index_rest(
    file: Any,
    owner_tables: Collection[str],
    pipeline: PipelineText | None,
    privacy: PrivacyText | None,
) -> None:
    private = file.create_group("privacy")
    for name, table in OWNER_LINKS.items():
        if table.name in owner_tables:
            # Under the names users look for, and stored once.
            file[name] = h5py.SoftLink(f"/ranks/000/{table.name}")
    if privacy:
        _set_index_privacy(private, privacy)
        add_hdf5_dataset(
            private,
            "promised",
            privacy.text,
            units="text",
            long_name="Privacy card as printed before the first release",
        )
    if pipeline:
        _add_index_pipeline(file.create_group("pipeline"), pipeline)


def compose_index_end(
    file: Any,
    *,
    results: Mapping[str, RunResult],
    privacy: PrivacyText | None,
    shard_digests: Sequence[str] | None,
) -> None:
    """Add to the open index what `finish_index` does, but for the status."""
    # An index may be finished again, and the last results count.
    if "results" in file:
        del file["results"]
    if "shard_digests" in file:
        # Detached first: the scales would keep a reference to a dataset that is gone.
        for axis in file["shard_digests"].dims:
            scale = axis[0]
            axis.detach_scale(scale)
            if scale != file["rank"] and "REFERENCE_LIST" not in scale.attrs:
                del file[scale.name]
        del file["shard_digests"]
    group = file.create_group("results")
    for name, result in results.items():
        add_hdf5_dataset(group, name, result.value, units=result.units, long_name=result.long_name)
    if privacy:
        _set_index_privacy(file["privacy"], privacy)
    if shard_digests is not None:
        add_hdf5_dataset(
            file,
            "shard_digests",
            list(shard_digests),
            units="text",
            long_name="Digest of each rank's shard at the end; empty if it was missing",
            axis=file["rank"],
        )


def index_shard_digest(path: Path) -> str:
    """Return the digest of a shard as hex, or "" if no regular file is there.

    What lies there instead (a link, a pipe) is named by whoever reads the shard; here it must not
    keep the other ranks' files from being looked at.
    """
    try:
        descriptor = open_regular_file(path)
    except (FileNotFoundError, PermissionError, RunFolderError):
        return ""
    with os.fdopen(descriptor, "rb") as file:
        # By the megabyte: a shard may be larger than memory.
        return digest_chunks("clicooper/shard", iter(lambda: file.read(1 << 20), b"")).hex


def index_layout_of(attrs: Mapping[str, Attribute]) -> Layout:
    """Return the layout of a run, from the root attributes of its index."""
    return "single" if attrs["layout"] == "single" else "shards"


def index_libver(layout: Layout) -> Any:
    """Return the versions of HDF5's format that an index of this layout is written in."""
    return SINGLE_LIBVER if layout == "single" else LIBVER


def _set_index_privacy(group: Any, privacy: PrivacyText) -> None:
    # The final card may have fewer entries than the promised one.
    for name in list(group.attrs):
        del group.attrs[name]
    set_hdf5_attributes(group, privacy.card)
    if "card" in group:
        del group["card"]
    add_hdf5_dataset(group, "card", privacy.text, units="text", long_name="Privacy card as printed")


def _add_index_pipeline(group: Any, pipeline: PipelineText) -> None:
    add_hdf5_dataset(
        group, "schedule", pipeline.schedule, units="text", long_name="Schedule: actions by rank"
    )
    layers = np.arange(len(pipeline.layer_names))
    layer = add_hdf5_dataset(group, "layer", layers, units="1", long_name="Layer, counted from 0")
    layer.make_scale("layer")
    add_hdf5_dataset(
        group,
        "layer_names",
        list(pipeline.layer_names),
        units="text",
        long_name="Name of each layer",
        axis=layer,
    )
    segments = np.arange(1, len(pipeline.cuts) + 1)
    segment = add_hdf5_dataset(group, "segment", segments, units="1", long_name="Segment, from 1")
    segment.make_scale("segment")
    add_hdf5_dataset(
        group,
        "cuts",
        np.array(pipeline.cuts, np.int64),
        units="1",
        long_name="First layer of each segment",
        axis=segment,
    )

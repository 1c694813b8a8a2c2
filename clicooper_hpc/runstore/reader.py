"""`Run`: read a run that is finished, running or left by a kill, without MPI or torch.

``run = open_run("runs/digits")`` and then ``run.table("training")`` (pandas), ``run.to_xarray()``,
``run.results``, ``run.privacy``, ``run.summary()``. Rows without a marker are never shown, and a
rank whose file is missing is named, never filled in.
"""

from __future__ import annotations

import json
import os
import tomllib
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.typed import find_hdf5_format, read_hdf5_attributes
from clicooper_hpc.runstore.index import index_shard_digest
from clicooper_hpc.runstore.index_links import INDEX_LINKS
from clicooper_hpc.runstore.index_values import read_index_values
from clicooper_hpc.runstore.run_display import run_summary
from clicooper_hpc.runstore.run_folder import RunFolder, check_run_begun
from clicooper_hpc.runstore.run_html import run_html
from clicooper_hpc.runstore.signed_digests import IndexContent
from clicooper_hpc.runstore.tables.frames import RankRows, rows_to_dataset, rows_to_frame
from clicooper_hpc.runstore.tables.schema import (
    EVALUATION,
    SHARD_FORMAT,
    STEPS,
    TRAINING,
    Table,
)
from clicooper_hpc.runstore.tables.source import TableSource

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["MissingRanksWarning", "Run", "open_run", "open_run_inside"]


class MissingRanksWarning(UserWarning):
    """The files of some ranks are not there; what was asked for is shown without them."""


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """One run. What stands in the index is as of `open_run`; tables are read at every call.

    Attributes
    ----------
    folder
        Where the parts of the run lie.
    attrs
        Root attributes of ``run.h5``.
    hosts
        Host of each rank.
    results
        What the run ended with, by name; empty until it is complete.
    result_units, result_names
        Unit and long name of each result.
    privacy
        Entries of the privacy card, the printed card under ``"text"``, and under ``"promised"``
        as it was before the first release.
    pipeline
        ``cuts``, ``schedule``, ``layer_names``, and the scales ``layer`` and ``segment``, as far
        as stored.
    shard_digests
        Digest of the file of each rank at the end of the run; empty before.
    """

    folder: RunFolder
    attrs: dict[str, Attribute]
    hosts: tuple[str, ...]
    results: dict[str, Attribute]
    result_units: dict[str, str]
    result_names: dict[str, str]
    privacy: dict[str, Attribute]
    pipeline: dict[str, Any]
    shard_digests: tuple[str, ...]
    _rank_scale: tuple[int, ...]
    _sources: Mapping[int, TableSource]

    @property
    def status(self) -> str:
        """``"complete"`` if the run reached its end and said so, else ``"incomplete"``."""
        return "complete" if self.attrs.get("status") == "complete" else "incomplete"

    @property
    def job(self) -> dict[str, Any]:
        """The resolved job; `RunFolderError` if its text is none, as of a shard alone."""
        if "resolved_job" not in self.attrs:
            raise self._no_job("it stands in run.h5, and this is the file of a rank alone")
        written = str(self.attrs["resolved_job"])
        try:
            job = (json.loads if written.lstrip().startswith("{") else tomllib.loads)(written)
        # Too deeply nested is a RecursionError in either.
        except (ValueError, RecursionError) as error:
            raise self._no_job(str(error)) from None
        return dict(job)

    def job_section(self, name: str) -> dict[str, Any]:
        """Return one section of the resolved job, empty if it is not there; errors as `job`."""
        section = self.job.get(name, {})
        if not isinstance(section, dict):
            raise self._no_job(f"{name} is {type(section).__name__}, not a section")
        return section

    @property
    def ranks(self) -> tuple[int, ...]:
        """All ranks of the run, whether or not their files are there; of a shard alone its rank."""
        return tuple(self._sources)

    @property
    def missing_ranks(self) -> tuple[int, ...]:
        """Ranks whose tables are not there now: in the run folder, or in the one file opened."""
        # Whatever lies there: what is no file is refused, with its reason, when it is read.
        return tuple(
            rank
            for rank, source in self._sources.items()
            if not (source.is_there and os.path.lexists(source.path))
        )

    @property
    def changed_ranks(self) -> tuple[int, ...]:
        """Ranks whose shard is not, byte for byte, the one the finished run left."""
        return tuple(
            rank
            for rank, digest in enumerate(self.shard_digests)
            # In one file there is no file of a rank.
            if not self._sources[rank].below
            and index_shard_digest(self.folder.shard(rank)) != digest
        )

    def table_names(self, rank: int) -> tuple[str, ...]:
        """Names of the tables of ``rank``."""
        return tuple(self._read(rank, ()))

    def table(self, name: str, rank: int | None = None) -> pd.DataFrame:
        """Return the complete rows of a table of one rank, or of all with a column ``rank``.

        Raises
        ------
        RunFolderError
            There is no such table or rank, or the file of ``rank`` is missing or damaged. Without
            ``rank``, missing files are left out with a `MissingRanksWarning` and are listed in
            ``frame.attrs["missing_ranks"]``.
        """
        wanted = self._present() if rank is None else (self._known(rank),)
        tables, rows = self._collect(name, wanted)
        try:
            frame = rows_to_frame(tables, rows, rank_column=rank is None)
        except RunFolderError as error:
            raise RunFolderError(
                error.what, where=f"{self.folder.path}, table {name}", remedy=error.remedy
            ) from None
        frame.attrs["missing_ranks"] = list(self.missing_ranks)
        return frame

    def stored_rows(
        self, rank: int, names: Collection[str] | None = None
    ) -> dict[Table, dict[str, Any]]:
        """Return tables of ``rank`` (None: all) as stored: one NumPy array per column."""
        return dict(one for one in self._read(self._known(rank), names).values() if one)

    def index_content(self) -> IndexContent:
        """Return what the index says by itself, for comparing with its signed digest."""
        privacy = dict(self.privacy)
        card, promised = (str(privacy.pop(name, "")) for name in ("text", "promised"))
        return IndexContent(
            attrs=self.attrs,
            hosts=self.hosts,
            cuts=self.pipeline.get("cuts", []),
            schedule=self.pipeline.get("schedule", ""),
            layer_names=self.pipeline.get("layer_names", []),
            privacy=privacy,
            promised=promised,
            card=card,
            results=self.results,
            scales=[
                self._rank_scale,
                self.pipeline.get("layer", []),
                self.pipeline.get("segment", []),
            ],
        )

    def to_xarray(self) -> xr.Dataset:
        """Return all per-step numbers over the dimensions (step, rank), root attributes included.

        Ranks whose files are missing are left out with a `MissingRanksWarning`.
        """
        ranks = self._present()
        dataset = rows_to_dataset(
            {table.name: self._collect(table.name, ranks) for table in (STEPS, TRAINING)}, ranks
        )
        missing = ", ".join(map(str, self.missing_ranks))
        about = {"units": "text", "long_name": "Host of each rank"}
        if self.hosts:
            hosts = [self.hosts[rank] for rank in ranks]
            dataset = dataset.assign_coords(host=("rank", hosts, about))
        return dataset.assign_attrs({**self.attrs, "missing_ranks": missing})

    def summary(self) -> str:
        """Return what ran, how far each rank came, and what it gave, as some lines of text.

        Control characters of texts in the run are escaped: the lines may be printed.
        """
        return run_summary(self)

    def plot(self) -> tuple[Axes, Axes]:
        """Draw loss and accuracy over the steps (matplotlib); return their axes; errors as `table`.

        ``axes.figure`` is shown by a notebook.
        """
        from clicooper_hpc.runstore.curves import plot_curves

        training = {rank: self.table(TRAINING.name, rank) for rank in self._present() if rank}
        owner = None if 0 in self.missing_ranks else self.table(EVALUATION.name, 0)
        return plot_curves(training, owner)

    def __repr__(self) -> str:
        name = printable_text(str(self.folder.path))
        if not self.hosts:
            return f"<Run {name}: rank {self.ranks[0]} alone>"
        return f"<Run {name}: {self.status}, {len(self.ranks) - 1} trainers>"

    def _repr_html_(self) -> str:
        title = f"{self.folder.path}: {self.status}, {len(self.ranks) - 1} trainers"
        return run_html(title, self.attrs, self.results, self.privacy)

    def _known(self, rank: int) -> int:
        if rank not in self.ranks:
            raise RunFolderError(
                f"there is no rank {rank}",
                where=str(self.folder.index),
                remedy=f"The ranks of this run are {self.ranks[0]} to {self.ranks[-1]}.",
            )
        return rank

    def _present(self) -> tuple[int, ...]:
        missing = self.missing_ranks
        if missing:
            names = ", ".join(self.folder.shard(rank).name for rank in missing)
            warnings.warn(
                printable_text(f"{self.folder.path}: {names} missing; shown without these ranks"),
                MissingRanksWarning,
                stacklevel=3,  # at the caller of `table` or `to_xarray`
            )
        return tuple(rank for rank in self.ranks if rank not in missing)

    def _collect(self, name: str, ranks: tuple[int, ...]) -> tuple[Table, RankRows]:
        rows: dict[int, Any] = {}
        table = None
        seen: set[str] = set()
        for rank in ranks:
            found = self._read(rank, (name,))
            seen.update(found)
            if found.get(name) is not None:
                table, rows[rank] = found[name]
        if table is None:
            raise RunFolderError(
                f"there is no table {name!r} of rank {', '.join(map(str, ranks)) or 'any'}",
                where=str(self.folder.path),
                remedy=f"Tables there: {', '.join(sorted(seen)) or 'none'}.",
            )
        return table, rows

    def _read(self, rank: int, wanted: Collection[str] | None) -> dict[str, Any]:
        """Tables of ``rank`` by name: as `Table` and rows if ``wanted`` (None: all), else None."""
        return self._sources[rank].read_tables(rank, str(self.attrs["run_id"]), wanted)

    def _no_job(self, why: str) -> RunFolderError:
        return RunFolderError(
            f"the resolved job is none ({why})",
            where=f"{self.folder.index}, / (attribute resolved_job)",
            remedy="Bring back the file the run wrote.",
        )


def open_run(path: str | Path) -> Run:
    """Open the run in the folder ``path``, or in a file of it.

    A ``run.h5`` whose ranks' files lie beside it stands for the folder, as does one of these files.
    Else a ``run.h5`` of a complete run, or what ``clicooper export --to one-file`` wrote, is read
    by itself, and the file of a rank shows the tables of that rank alone.

    Raises
    ------
    RunFolderError
        There is no run, its index is damaged, or it was written by a newer version.
    """
    place = Path(path)
    if not os.path.isfile(place):
        folder = RunFolder(place.parent if place.name == "run.h5" else place)
        check_run_begun(folder)
        return _open_index(folder, folder.index, alone=False)
    folder = RunFolder(place.parent)
    # Links as an index has them: what is read of a shard itself is looked at without.
    form = read_hdf5_file(place, find_hdf5_format, rules=INDEX_LINKS)
    if form == SHARD_FORMAT:
        if os.path.lexists(folder.index):
            return _open_index(folder, folder.index, alone=False)
        return _open_shard(folder, place)
    folder = RunFolder(place.parent, place.name)
    return _open_index(folder, place, alone=not os.path.lexists(folder.shard(0)))


def open_run_inside(folder: RunFolder) -> Run:
    """Open the run that the index of ``folder`` shows by itself, whatever lies beside it.

    Raises
    ------
    RunFolderError
        As of `open_run`.
    """
    return _open_index(folder, folder.index, alone=True)


def _open_index(folder: RunFolder, index: Path, *, alone: bool) -> Run:
    """Return the run of ``index``; ``alone``: read from it as far as it has all tables."""
    values = read_hdf5_file(
        index, lambda file: read_index_values(file, where=str(index)), rules=INDEX_LINKS
    )
    inside = values.pop("tables_of")
    ranks = range(len(values["hosts"]))
    if inside and (alone or values["attrs"]["layout"] == "single"):
        sources = {
            rank: TableSource(index, f"ranks/{rank:03d}", is_there=rank in inside) for rank in ranks
        }
    else:
        sources = {rank: TableSource(folder.shard(rank)) for rank in ranks}
    return Run(folder=folder, **values, _sources=sources)


def _open_shard(folder: RunFolder, path: Path) -> Run:
    """Return what the file of one rank shows of a run."""
    attrs = read_hdf5_file(path, read_hdf5_attributes)
    rank = attrs.get("rank")
    if type(rank) is not int or not isinstance(attrs.get("run_id"), str):
        raise RunFolderError(
            "does not say of which rank and run it is",
            where=str(path),
            remedy="Bring back the file the run wrote.",
        )
    return Run(
        folder=folder,
        attrs=attrs,
        hosts=(),
        results={},
        result_units={},
        result_names={},
        privacy={},
        pipeline={},
        shard_digests=(),
        _rank_scale=(),
        _sources={rank: TableSource(path)},
    )

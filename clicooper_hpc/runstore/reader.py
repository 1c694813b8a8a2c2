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
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.printable import printable_lines, printable_text
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file, unopened_file
from clicooper_hpc.runstore.hdf5.typed import (
    hdf5_group,
    read_hdf5_attribute,
    read_hdf5_text_attribute,
)
from clicooper_hpc.runstore.index import index_shard_digest
from clicooper_hpc.runstore.index_links import INDEX_LINKS
from clicooper_hpc.runstore.index_values import read_index_values
from clicooper_hpc.runstore.run_display import rank_progress
from clicooper_hpc.runstore.run_folder import RunFolder, check_run_begun
from clicooper_hpc.runstore.run_html import run_html
from clicooper_hpc.runstore.signed_digests import IndexContent
from clicooper_hpc.runstore.tables.frames import RankRows, rows_to_dataset, rows_to_frame
from clicooper_hpc.runstore.tables.schema import EVALUATION, STEPS, TRAINING, Table
from clicooper_hpc.runstore.tables.storage import find_stored_tables, read_stored_rows, stored_table

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["MissingRanksWarning", "Run", "open_run"]


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
    result_units
        Unit of each result.
    privacy
        Entries of the privacy card, the printed card under ``"text"``, and under ``"promised"``
        as it was before the first release.
    pipeline
        ``cuts``, ``schedule``, ``layer_names``, and the scales ``layer`` and ``segment``, as far
        as stored.
    """

    folder: RunFolder
    attrs: dict[str, Attribute]
    hosts: tuple[str, ...]
    results: dict[str, Attribute]
    result_units: dict[str, str]
    privacy: dict[str, Attribute]
    pipeline: dict[str, Any]
    _digests: tuple[str, ...]
    _rank_scale: tuple[int, ...]

    @property
    def status(self) -> str:
        """``"complete"`` if the run reached its end and said so, else ``"incomplete"``."""
        return "complete" if self.attrs.get("status") == "complete" else "incomplete"

    @property
    def job(self) -> dict[str, Any]:
        """The resolved job; `RunFolderError` if its text is none."""
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
        """All ranks of the run, whether or not their files are there."""
        return tuple(range(len(self.hosts)))

    @property
    def missing_ranks(self) -> tuple[int, ...]:
        """Ranks whose shard is not in the run folder now."""
        if self.attrs["layout"] == "single":
            return ()
        # Whatever lies there: what is no file is refused, with its reason, when it is read.
        return tuple(rank for rank in self.ranks if not os.path.lexists(self.folder.shard(rank)))

    @property
    def changed_ranks(self) -> tuple[int, ...]:
        """Ranks whose shard is not, byte for byte, the one the finished run left."""
        return tuple(
            rank
            for rank, digest in enumerate(self._digests)
            if index_shard_digest(self.folder.shard(rank)) != digest
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
        hosts = [self.hosts[rank] for rank in ranks]
        missing = ", ".join(map(str, self.missing_ranks))
        about = {"units": "text", "long_name": "Host of each rank"}
        return dataset.assign_coords(host=("rank", hosts, about)).assign_attrs(
            {**self.attrs, "missing_ranks": missing}
        )

    def summary(self) -> str:
        """Return what ran, how far each rank came, and what it gave, as some lines of text.

        Control characters of texts in the run are escaped: the lines may be printed.
        """
        attrs = {
            name: printable_text(value) if isinstance(value, str) else value
            for name, value in self.attrs.items()
        }
        trainers = len(self.ranks) - 1
        hosts = len(set(self.hosts))
        lines = [
            f"{self.folder.path}: {self.status}",
            f"run {attrs['run_id']}, created {attrs['created']}, "
            f"clicooper-hpc {attrs['creator_version']}",
            f"1 owner, {trainers} trainer{'s' * (trainers != 1)}, "
            f"{hosts} host{'s' * (hosts != 1)}, layout {attrs['layout']}",
        ]
        if restarts := int(attrs.get("restarts", 0)):
            lines.append(f"started again {restarts} time{'s' * (restarts != 1)}")
        missing = self.missing_ranks
        lines += [
            f"rank {rank}: {self._progress(rank)}" for rank in self.ranks if rank not in missing
        ]
        lines += [f"rank {rank}: {self.folder.shard(rank).name} IS MISSING" for rank in missing]
        for name, value in self.results.items():
            units = self.result_units[name]
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            units = f" {units}" if units not in {"1", "text"} else ""
            lines.append(printable_text(f"{name}: {shown}{units}"))
        if "text" in self.privacy:
            lines += [
                "privacy card:",
                # Indented: no line of it passes for one of the summary.
                *(f"  {line}" for line in str(self.privacy["text"]).splitlines()),
            ]
        return printable_lines("\n".join(lines))

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
        return f"<Run {name}: {self.status}, {len(self.ranks) - 1} trainers>"

    def _repr_html_(self) -> str:
        title = f"{self.folder.path}: {self.status}, {len(self.ranks) - 1} trainers"
        return run_html(title, self.attrs, self.results, self.privacy)

    def _progress(self, rank: int) -> str:
        try:
            names = self.table_names(rank)
        except RunFolderError as error:
            return printable_text(f"UNREADABLE ({error.what})")
        read = (
            self.table(table.name, rank) if table.name in names else None
            for table in (STEPS, TRAINING)
        )
        return rank_progress(*read)

    def _known(self, rank: int) -> int:
        if rank not in self.ranks:
            raise RunFolderError(
                f"there is no rank {rank}",
                where=str(self.folder.index),
                remedy=f"The ranks of this run are 0 to {self.ranks[-1]}.",
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
        # Not through the index's links: a shard being written needs `read_hdf5_file`.
        single = self.attrs["layout"] == "single"
        path = self.folder.index if single else self.folder.shard(rank)
        below = f"ranks/{rank:03d}" if single else ""

        def read(file: Any) -> dict[str, Any]:
            # A shard of another run under this name would be shown as this run's.
            if not single and read_hdf5_text_attribute(file, "run_id") != self.attrs["run_id"]:
                raise self._wrong_shard("the shard belongs to another run", path)
            # And one of another rank as this rank's.
            if not single and read_hdf5_attribute(file, "rank") != rank:
                raise self._wrong_shard("the shard is that of another rank", path)
            place = hdf5_group(file, below) if single else file
            return {
                name: (stored_table(group), read_stored_rows(group))
                if wanted is None or name in wanted
                else None
                for name, group in find_stored_tables(place)
            }

        # The rest of a single file was looked at by `open_run`.
        try:
            return read_hdf5_file(path, read, below=below)
        except PermissionError as error:
            # One rank's file, not the run: the others are read all the same.
            raise unopened_file(path, error) from None

    def _wrong_shard(self, what: str, path: Path) -> RunFolderError:
        return RunFolderError(
            what, where=str(path), remedy="Bring back the shard this run wrote under this name."
        )

    def _no_job(self, why: str) -> RunFolderError:
        return RunFolderError(
            f"the resolved job is none ({why})",
            where=f"{self.folder.index}, / (attribute resolved_job)",
            remedy="Bring back the file the run wrote.",
        )


def open_run(path: str | Path) -> Run:
    """Open the run in the folder ``path`` (its ``run.h5`` will do as well).

    Raises
    ------
    RunFolderError
        There is no run, its index is damaged, or it was written by a newer version.
    """
    place = Path(path)
    folder = RunFolder(place.parent if place.name == "run.h5" else place)
    check_run_begun(folder)
    values = read_hdf5_file(
        folder.index,
        lambda file: read_index_values(file, where=str(folder.index)),
        rules=INDEX_LINKS,
    )
    return Run(folder=folder, **values)

"""One run as the page reads it: tables as far as they can be read; what cannot be is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.report.public_text import PublicText
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.whole_run import open_whole_run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunReading", "open_reading"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RunReading:
    """A run that was opened.

    Attributes
    ----------
    run, public
        The run; how its texts are shown.
    gaps
        What could not be read, each a line; grows as more is read.
    """

    run: Run
    public: PublicText
    gaps: list[str] = field(default_factory=list)
    _tables: dict[int, set[str]] = field(default_factory=dict)
    _frames: dict[tuple[str, int], pd.DataFrame | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run folder, without what lies above it."""
        return self.public.line(self.run.folder.path.resolve().name)

    def table(self, name: str, rank: int) -> pd.DataFrame | None:
        """Return the complete rows of a table, or None where there is none to be read.

        A table is read once, whoever asks for it how often; nobody may change it.
        """
        if name not in self._names(rank):
            return None
        if (name, rank) not in self._frames:
            self._frames[name, rank] = self.attempt(
                f"table {name} of rank {rank}", lambda: self.run.table(name, rank)
            )
        return self._frames[name, rank]

    def look_at_files(self) -> None:
        """Name the files of ranks that are missing or cannot be read."""
        for rank in self.run.ranks:
            self._names(rank)

    def attempt(self, what: str, call: Callable[[], _T]) -> _T | None:
        """Return what ``call`` returns; None, and a gap that names ``what``, if it is refused."""
        try:
            return call()
        except ClicooperError as error:
            self.add_gap(f"{what}: {error.what}")
            return None

    def add_gap(self, what: str) -> None:
        """Name something that the page lacks, once."""
        line = self.public.line(what)
        if line not in self.gaps:
            self.gaps.append(line)

    def job_value(self, section: str, key: str) -> Any:
        """Return a value of the resolved job, None if it is not there."""
        found = self.attempt("the job", lambda: self.run.job_section(section))
        return None if found is None else found.get(key)

    def _names(self, rank: int) -> set[str]:
        if rank not in self._tables:
            if rank in self.run.missing_ranks:
                self.add_gap(f"rank {rank}: its file {self.run.folder.shard(rank).name} is missing")
                found = None
            else:
                found = self.attempt(f"rank {rank}", lambda: self.run.table_names(rank))
            self._tables[rank] = set(found or ())
        return self._tables[rank]


def open_reading(path: Path) -> RunReading:
    """Open the run in ``path``; raises as `clicooper_hpc.runstore.reader.open_run`."""
    run = open_whole_run(path)
    reading = RunReading(run, PublicText.of_run(run))
    reading.look_at_files()
    return reading

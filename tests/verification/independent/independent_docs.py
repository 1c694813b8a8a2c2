"""What docs/hdf5.md says a run's HDF5 files hold, read from the page itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parents[3] / "docs" / "hdf5.md"


@dataclass(frozen=True)
class Described:
    """One dataset of the page: type, names of its axes, units and long name."""

    kind: str
    axes: tuple[str, ...]
    units: str
    long_name: str


@dataclass(frozen=True)
class DescribedTable:
    """One table: who writes it, its axis, its long name, and its columns in order."""

    writers: str
    axis: str
    long_name: str
    columns: dict[str, np.dtype]
    plotted: tuple[str, ...]


def block(name: str) -> list[list[str]]:
    """Cells of the rows of a marked table of the page, without its two heading lines."""
    text = PAGE.read_text(encoding="utf-8")
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert match is not None, name
    lines = match[1].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


@cache
def root_attributes() -> frozenset[str]:
    """Names of the root attributes of `run.h5`; `LIBRARY_version` stands for one a library."""
    match = re.search(r"<!-- attributes -->\n(.*?)<!-- end -->", PAGE.read_text(), re.DOTALL)
    assert match is not None
    return frozenset(re.findall(r"`(\w+)`", match[1]))


@cache
def datasets() -> dict[str, Described]:
    """Every dataset by its name; `NNN` stands for a rank."""
    return {
        name.strip("`"): Described(kind, axes_of(shape), units, long_name)
        for name, kind, shape, units, long_name in block("datasets")
        if kind
    }


def axes_of(shape: str) -> tuple[str, ...]:
    """Axes of a shape as the page writes it."""
    return () if shape == "scalar" else tuple(re.findall(r"\w+", shape))


@cache
def soft_links() -> dict[str, str]:
    """Names that are links to another name of `run.h5`."""
    return {
        row[0].strip("`"): row[-1].split("`")[1]
        for row in block("datasets")
        if "the same as" in row[-1]
    }


@cache
def tables() -> dict[str, DescribedTable]:
    """Every table by its name."""
    found = {}
    for name, writers, axis, long_name, columns, plotted in block("tables"):
        named = re.findall(r"`(\w+)` (\w+)", columns)
        typed = {column: np.dtype(kind).newbyteorder("<") for column, kind in named}
        found[name.strip("`")] = DescribedTable(
            writers, axis.strip("`"), long_name, typed, tuple(re.findall(r"`(\w+)`", plotted))
        )
    return found


def tables_of(rank: int) -> tuple[str, ...]:
    """Names of the tables a rank writes."""
    who = "trainers" if rank else "owner"
    return tuple(name for name, table in tables().items() if who in table.writers)


@cache
def results() -> dict[str, tuple[str, str]]:
    """Units and long name of every result there can be."""
    return {name.strip("`"): (units, long_name) for name, units, long_name in block("results")}

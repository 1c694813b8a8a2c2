"""Whether the HDF5 files of a run hold what docs/hdf5.md lists, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import independent_docs as docs
import numpy as np
from independent_folder import DAMAGE, RunFolder, plain, read_table

SCALES = {"DIMENSION_LABELS", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"}
GROUPS = {"metrics", "pipeline", "privacy", "provenance", "ranks", "results"}


def layout_problems(folder: Path, run: RunFolder, *, finished: bool) -> list[str]:
    """What departs from the page, in all files that are there (layout `shards`)."""
    found: list[str] = []
    ranks = range(run.num_ranks)
    try:
        with h5py.File(folder / "run.h5", "r") as file:
            found += [f"run.h5: {one}" for one in _index_problems(file, run, finished=finished)]
    except DAMAGE as error:
        return [f"run.h5: {error}"]
    for rank in ranks:
        path = folder / f"rank-{rank:03d}.h5"
        if not path.exists():
            continue
        try:
            with h5py.File(path, "r", swmr=not finished) as file:
                found += [
                    f"{path.name}: {one}" for one in _shard_problems(file, rank, run, finished)
                ]
        except DAMAGE as error:
            found.append(f"{path.name}: {error}")
    return found


def members(group: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, link and object of everything below a group; no link is followed out of it."""
    for name in group:
        link = group.get(name, getlink=True)
        item = group[name] if isinstance(link, h5py.HardLink) else None
        yield f"{at}{name}", link, item
        if isinstance(item, h5py.Group):
            yield from members(item, f"{at}{name}/")


def _shard_problems(
    file: Any, rank: int, run: RunFolder, finished: bool, *, is_copy: bool = False
) -> Iterator[str]:
    root = {"format": "clicooper-shard", "format_version": 2, "rank": rank}
    root["Conventions"] = "clicooper-shard-2"
    root["run_id"] = run.attributes["run_id"]
    if not is_copy and attributes_of(file) != root:
        yield "other root attributes"
    wanted = {name: docs.tables()[name] for name in docs.tables_of(rank)}
    columns = {
        f"{name}/{column}": (table.columns | {"complete": np.dtype("u1")})[column]
        for name, table in wanted.items()
        for column in (*table.columns, "complete")
    }
    seen = set()
    for name, link, item in members(file):
        seen.add(name)
        if not isinstance(link, h5py.HardLink):
            yield f"{name} is a link"
        elif _is_character_axis(name, item):
            yield from _character_axis_problems(name, item)
        elif isinstance(item, h5py.Group) and name in wanted:
            if attributes_of(item) != _table_attributes(wanted[name]):
                yield f"{name}: other attributes"
        elif isinstance(item, h5py.Dataset) and name in columns:
            described = docs.datasets()[f"ranks/NNN/{name}"]
            yield from _dataset_problems(name, item, described)
            stored = item.dtype.newbyteorder("<")
            if item.ndim > 1 and stored == "S1":
                stored = np.dtype(f"S{item.shape[-1]}")
            if stored != columns[name]:
                yield f"{name} is of type {item.dtype}"
            scale = file[name.split("/")[0]].get(wanted[name.split("/")[0]].axis)
            yield from _scale_problems(name, item, scale)
            if finished and item.shape[:1] != (np.count_nonzero(_complete(file, name)),):
                yield f"{name} has {item.shape} values"
        else:
            yield f"{name} must not be there"
    yield from (f"{name} is missing" for name in {*wanted, *columns} - seen)
    yield from (f"{name} is of no text" for name in _idle_axes(file))


def _table_attributes(table: docs.DescribedTable) -> dict[str, str]:
    about = {"axis": table.axis, "long_name": table.long_name}
    if table.plotted:
        about |= {"NX_class": "NXdata", "axes": table.axis}
        about |= dict(zip(("signal", "auxiliary_signals"), table.plotted, strict=False))
    return about


def _is_character_axis(name: str, item: Any) -> bool:
    own = name.rsplit("/", 1)[-1]
    return isinstance(item, h5py.Dataset) and re.fullmatch(r"string[1-9]\d*", own) is not None


def _character_axis_problems(name: str, item: Any) -> Iterator[str]:
    length = int(name.rsplit("string", 1)[-1])
    if (
        item.shape != (length,)
        or item.dtype != "u1"
        or item.maxshape != (length,)
        or item[()].any()
    ):
        yield f"{name} is no axis of {length} characters"
    if set(item.attrs) != {"CLASS", "NAME", "REFERENCE_LIST"}:
        yield f"{name} has other attributes"
    hidden = f"This is a netCDF dimension but not a netCDF variable.{length:10d}"
    if plain(item.attrs.get("NAME")) != hidden:
        yield f"{name} is a scale under another name"


def _idle_axes(group: Any) -> set[str]:
    """Axes of characters without a text of their group on them."""
    every = {name: item for name, link, item in members(group) if isinstance(item, h5py.Dataset)}
    used = set()
    for name, item in every.items():
        if item.ndim > 1 and item.dtype == "S1" and item.shape:
            used.add(f"{name.rpartition('/')[0]}/string{item.shape[-1]}".lstrip("/"))
    return {name for name, item in every.items() if _is_character_axis(name, item)} - used


def _complete(file: Any, name: str) -> Any:
    marker = file[name.split("/")[0]].get("complete")
    return marker[()] if isinstance(marker, h5py.Dataset) else np.zeros(0)


def attributes_of(item: Any) -> dict[str, Any]:
    """Attributes but those of scales; text must be of fixed length and in UTF-8."""
    found = {}
    for name in item.attrs:
        if name not in SCALES:
            value = plain(item.attrs[name])
            found[name] = (
                value if is_plain(item.attrs.get_id(name).dtype) else f"no text: {value!r}"
            )
    return found


def is_plain(dtype: Any) -> bool:
    """Whether a type is a number, or text of fixed length in UTF-8."""
    text = h5py.check_string_dtype(dtype)
    return (
        dtype.kind in "iufb" if text is None else (text.encoding == "utf-8" and bool(text.length))
    )


def _dataset_problems(name: str, item: Any, described: docs.Described) -> Iterator[str]:
    """Problems of one dataset: type, dimensions, units, long name, other attributes."""
    own = name.rsplit("/", 1)[-1]
    # The ranks' numbers in `metrics` lie along the scale in the root.
    is_scale = described.axes == (own,) and name != "metrics/rank"
    scales = (
        {"CLASS", "NAME", "REFERENCE_LIST"} if is_scale else {"DIMENSION_LABELS", "DIMENSION_LIST"}
    )
    if SCALES & set(item.attrs) != (scales if described.axes else set()):
        yield f"{name} has not the attributes of a scale or of what hangs on one"
    if is_scale and plain(item.attrs.get("NAME")) != own:
        yield f"{name} is a scale under another name"
    text = h5py.check_string_dtype(item.dtype)
    length, axes = item.dtype.itemsize, described.axes
    about = {"units": described.units, "long_name": described.long_name}
    if text and axes:
        if item.dtype != "S1" or item.ndim != len(axes) + 1:
            yield f"{name} is no array of characters"
            return
        length = item.shape[-1]
        axes = (*axes, f"string{length}")
        about["_Encoding"] = "utf-8"
        along = [one.name for one in item.dims[item.ndim - 1].values()]
        if along != [f"{item.parent.name.rstrip('/')}/string{length}"]:
            yield f"{name} has another axis of characters"
    kinds = ("text", f"text of {length}") if text else (str(item.dtype),)
    if described.kind not in (*kinds, "any") or not is_plain(item.dtype):
        yield f"{name} is of type {kinds[-1]}"
    if item.ndim != len(axes):
        yield f"{name} has {item.ndim} dimensions"
    if attributes_of(item) != about:
        yield f"{name}: other attributes"
    labels = item.attrs.get("DIMENSION_LABELS")
    if labels is not None and tuple(map(str, labels)) != axes:
        yield f"{name}: other labels {labels}"
    if item.external:
        yield f"{name} is stored in other files"


def _scale_problems(name: str, item: Any, scale: Any) -> Iterator[str]:
    """Problems of the one scale along the rows of a table."""
    if not isinstance(scale, h5py.Dataset):
        yield f"{name} has no scale"
    elif item == scale:
        if not scale.is_scale:
            yield f"{name} is no scale"
    elif [one.name for one in item.dims[0].values()] != [scale.name]:
        yield f"{name} has another scale"


def _index_problems(file: Any, run: RunFolder, *, finished: bool) -> Iterator[str]:
    attributes = {
        "LIBRARY_version" if re.fullmatch(r"(?!creator|format)\w+_version", name) else name
        for name in file.attrs
    }
    if attributes != docs.root_attributes():
        yield f"other root attributes: {sorted(attributes ^ docs.root_attributes())}"
    fixed = {
        "creator": "clicooper-hpc",
        "Conventions": "clicooper-run-2",
        "NX_class": "NXroot",
        "default": "metrics",
    }
    for name, value in fixed.items():
        if run.attributes.get(name) != value:
            yield f"attribute {name} is not {value}"
    for group in (file, file.get("privacy")):
        if isinstance(group, h5py.Group):
            bad = [name for name, value in attributes_of(group).items() if "no text" in str(value)]
            yield from (f"attribute {name} is no text" for name in bad)
    count = run.num_ranks
    if run.attributes.get("layout") not in ("shards", "single"):
        yield "attribute layout is neither shards nor single"
    if run.attributes.get("num_ranks") != count:
        yield "attribute num_ranks is not the number of ranks"
    links: dict[str, tuple[str, str]] = {
        name: ("", f"/{to}") for name, to in docs.soft_links().items()
    }
    # The tables of all ranks are in a complete one; before, links lead to the ranks' files.
    whole = finished or run.attributes.get("layout") == "single"
    if not whole:
        links |= {f"ranks/{rank:03d}": (f"rank-{rank:03d}.h5", "/") for rank in range(count)}
    late = {"shard_digests", "privacy/card"}
    described = {
        name: one for name, one in docs.datasets().items() if not name.startswith("ranks/")
    }
    any_result = described.pop("results/NAME")
    seen = set()
    for name, link, item in members(file):
        seen.add(name)
        if name in links:
            file_name = getattr(link, "filename", "")
            if isinstance(link, h5py.HardLink) or (file_name, link.path) != links[name]:
                yield f"{name} leads elsewhere"
        elif not isinstance(link, h5py.HardLink):
            yield f"{name} is a link"
        elif name.startswith("ranks/") and whole:
            # Held against the files of the ranks below.
            continue
        elif _is_character_axis(name, item):
            yield from _character_axis_problems(name, item)
        elif isinstance(item, h5py.Group) and name in GROUPS:
            due = _table_attributes(docs.tables()["training"]) if name == "metrics" else {}
            about = attributes_of(item)
            if name != "privacy" and about != {
                key: value for key, value in due.items() if key not in ("axis", "long_name")
            }:
                yield f"{name}: other attributes"
        elif name.startswith("results/") and name.split("/")[1] in docs.results():
            units, long_name = docs.results()[name.split("/")[1]]
            one = docs.Described(any_result.kind, any_result.axes, units, long_name)
            yield from _dataset_problems(name, item, one)
        elif isinstance(item, h5py.Dataset) and name in described:
            yield from _dataset_problems(name, item, described[name])
            yield from _index_scale_problems(file, name, item, described[name])
        else:
            yield f"{name} must not be there"
    missing = {*GROUPS, *links, *described} - seen
    yield from (
        f"{name} is missing" for name in missing if finished or name not in {*late, "results"}
    )
    yield from (f"{name} is of no text" for name in _idle_axes(file) if name[:6] != "ranks/")
    if finished:
        yield from _metric_problems(file, run, count)
        for rank in range(count):
            yield from _copy_problems(file, rank, run)


def _index_scale_problems(file: Any, name: str, item: Any, one: docs.Described) -> Iterator[str]:
    """Problems of the scales of a dataset of `run.h5`: one named like each axis."""
    for number, axis in enumerate(one.axes):
        place = {"rank": "/rank", "step": "/metrics/step"}.get(axis, f"/pipeline/{axis}")
        if f"/{name}" == place:
            if not item.is_scale:
                yield f"{name} is no scale"
        elif [scale.name for scale in item.dims[number].values()] != [place]:
            yield f"{name} has another scale along {axis}"


def _copy_problems(file: Any, rank: int, run: RunFolder) -> Iterator[str]:
    """Tables of a rank in a complete index that are no tables, or not those of its file."""
    place = f"ranks/{rank:03d}"
    if not isinstance(file.get(place), h5py.Group):
        yield f"{place} is missing"
        return
    if len(file[place].attrs):
        yield f"{place}: other attributes"
    for problem in _shard_problems(file[place], rank, run, True, is_copy=True):
        yield f"{place}/{problem}"
    tables = run.tables[rank]
    for name, rows in ({} if isinstance(tables, Exception) else tables).items():
        copy = read_table(file[place], name)
        if isinstance(rows, Exception) or isinstance(copy, Exception):
            continue
        if any(copy[column].tobytes() != values.tobytes() for column, values in rows.items()):
            yield f"{place}/{name} shows other rows than the file of the rank"


def _metric_problems(file: Any, run: RunFolder, count: int) -> Iterator[str]:
    """Metrics that show other values than the ranks' tables."""
    for name, item in file["metrics"].items():
        if not isinstance(item, h5py.Dataset):
            continue
        if item.is_virtual:
            yield f"metrics/{name} is a view"
            continue
        if name == "rank":
            if item[()].tolist() != list(range(count)):
                yield "metrics/rank names other ranks"
            continue
        column = name.removesuffix("_by_rank")
        columns = [_column(run, rank, column) for rank in range(count)]
        if any(isinstance(one, str) for one in columns):
            # Of a file that cannot be read: another check says so.
            continue
        shown = item[()]
        wanted = [one for one in columns if one is not None]
        if item.ndim == 1:
            same = np.array_equal(shown, wanted[-1], equal_nan=shown.dtype.kind == "f")
        else:
            same = shown.shape[1:] == (count,) and all(
                one is None
                or np.array_equal(shown[:, rank], one, equal_nan=shown.dtype.kind == "f")
                for rank, one in enumerate(columns)
            )
        if not same:
            yield f"metrics/{name} shows other values than the ranks' files"


def _column(run: RunFolder, rank: int, column: str) -> Any:
    """Column of a rank that metrics show; a text if it cannot be read, None if there is none."""
    tables = run.tables[rank]
    if isinstance(tables, Exception):
        return str(tables)
    for name in ("steps", "training"):
        rows = tables.get(name)
        if isinstance(rows, Exception):
            return str(rows)
        if rows is not None and column in rows:
            return rows[column]
        if rows is not None and column == "complete":
            return np.ones(len(next(iter(rows.values()))), dtype="u1")
    return None

"""Whether the HDF5 files of a run hold what docs/hdf5.md lists, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import independent_docs as docs
import numpy as np
from independent_folder import DAMAGE, RunFolder, plain

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


def _shard_problems(file: Any, rank: int, run: RunFolder, finished: bool) -> Iterator[str]:
    root = {"format": "clicooper-shard", "format_version": 1, "rank": rank}
    root["run_id"] = run.attributes["run_id"]
    if attributes_of(file) != root:
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
        elif isinstance(item, h5py.Group) and name in wanted:
            about = {"axis": wanted[name].axis, "long_name": wanted[name].long_name}
            if attributes_of(item) != about:
                yield f"{name}: other attributes"
        elif isinstance(item, h5py.Dataset) and name in columns:
            described = docs.datasets()[f"ranks/NNN/{name}"]
            yield from _dataset_problems(name, item, described)
            if item.dtype.newbyteorder("<") != columns[name]:
                yield f"{name} is of type {item.dtype}"
            scale = file[name.split("/")[0]].get(wanted[name.split("/")[0]].axis)
            yield from _scale_problems(name, item, scale)
            if finished and item.shape != (np.count_nonzero(_complete(file, name)),):
                yield f"{name} has {item.shape} values"
        else:
            yield f"{name} must not be there"
    yield from (f"{name} is missing" for name in {*wanted, *columns} - seen)


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
    is_scale = described.axes == (own,)
    scales = (
        {"CLASS", "NAME", "REFERENCE_LIST"} if is_scale else {"DIMENSION_LABELS", "DIMENSION_LIST"}
    )
    if SCALES & set(item.attrs) != (scales if described.axes else set()):
        yield f"{name} has not the attributes of a scale or of what hangs on one"
    if is_scale and plain(item.attrs.get("NAME")) != own:
        yield f"{name} is a scale under another name"
    text = h5py.check_string_dtype(item.dtype)
    kinds = ("text", f"text of {item.dtype.itemsize}") if text else (str(item.dtype),)
    if described.kind not in (*kinds, "any") or not is_plain(item.dtype):
        yield f"{name} is of type {kinds[-1]}"
    if item.ndim != len(described.axes):
        yield f"{name} has {item.ndim} dimensions"
    if attributes_of(item) != {"units": described.units, "long_name": described.long_name}:
        yield f"{name}: other attributes"
    labels = item.attrs.get("DIMENSION_LABELS")
    if labels is not None and tuple(map(str, labels)) != described.axes:
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
    if run.attributes.get("creator") != "clicooper-hpc":
        yield "attribute creator is not the package"
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
        elif isinstance(item, h5py.Group) and name in GROUPS:
            if name != "privacy" and len(item.attrs):
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
    if finished:
        yield from _view_problems(file, run, count)


def _index_scale_problems(file: Any, name: str, item: Any, one: docs.Described) -> Iterator[str]:
    """Problems of the scales of a dataset of `run.h5`: one named like each axis."""
    for number, axis in enumerate(one.axes):
        place = {"rank": "/rank", "step": "/metrics/step"}.get(axis, f"/pipeline/{axis}")
        if f"/{name}" == place:
            if not item.is_scale:
                yield f"{name} is no scale"
        elif [scale.name for scale in item.dims[number].values()] != [place]:
            yield f"{name} has another scale along {axis}"


def _view_problems(file: Any, run: RunFolder, count: int) -> Iterator[str]:
    """Views that show other values than the ranks' tables."""
    for name, item in file["metrics"].items():
        if not isinstance(item, h5py.Dataset):
            continue
        if not item.is_virtual:
            yield f"metrics/{name} is no view"
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

"""What the index ``run.h5`` says by itself, read with every type and shape looked at."""

from __future__ import annotations

from typing import Any, Final

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.hdf5.typed import (
    find_hdf5_format,
    find_hdf5_group,
    find_hdf5_text,
    hdf5_group,
    hdf5_scalar,
    hdf5_texts,
    hdf5_whole_numbers,
    read_hdf5_attributes,
    read_hdf5_text_attribute,
)
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError
from clicooper_hpc.runstore.index import RUN_FORMAT, RUN_VERSION, index_text_names
from clicooper_hpc.runstore.limits import MOST_RANKS

__all__ = ["read_index_values"]

_COUNTS: Final = ("format_version", "num_ranks", "restarts")


def read_index_values(file: Any, *, where: str) -> dict[str, Any]:
    """Return the fields of `clicooper_hpc.runstore.reader.Run` that stand in the index.

    And ``tables_of``, the ranks whose tables do.

    Raises
    ------
    RunFolderError
        This is no run, or one of another version.
    UnexpectedContentError
        Something is missing, or of another type or shape.
    """
    # First of all: attributes of another kind of file may be of any type.
    if find_hdf5_format(file) != RUN_FORMAT:
        raise RunFolderError(
            "this HDF5 file is not a run",
            where=where,
            remedy="Name a folder that `clicooper run` wrote.",
        )
    attrs = read_hdf5_attributes(file)
    _check_header(attrs, where)
    private = hdf5_group(file, "privacy")
    privacy = read_hdf5_attributes(private)
    for key, name in (("text", "card"), ("promised", "promised")):
        text = find_hdf5_text(private, name)
        if text is not None:
            privacy[key] = text
    results = find_hdf5_group(file, "results")
    names = () if results is None else tuple(results)
    hosts = hdf5_texts(file, "hosts")
    # Where every rank's file is asked for one by one, and shown.
    if not 1 <= len(hosts) <= MOST_RANKS or len(hosts) != attrs["num_ranks"]:
        raise UnexpectedContentError(
            "/hosts",
            f"names {len(hosts)} ranks, num_ranks says {attrs['num_ranks']}; a run has 1 to "
            f"{MOST_RANKS}",
        )
    digests = hdf5_texts(file, "shard_digests") if "shard_digests" in file else []
    if len(digests) not in (0, len(hosts)):
        raise UnexpectedContentError(
            "/shard_digests", f"names {len(digests)} of {len(hosts)} ranks"
        )
    return {
        "attrs": attrs,
        "hosts": tuple(hosts),
        "results": {name: hdf5_scalar(results, name) for name in names},
        "result_units": {name: read_hdf5_text_attribute(results[name], "units") for name in names},
        "result_names": {
            name: read_hdf5_text_attribute(results[name], "long_name") for name in names
        },
        "privacy": privacy,
        "pipeline": _read_pipeline(find_hdf5_group(file, "pipeline")),
        "shard_digests": tuple(digests),
        "_rank_scale": tuple(hdf5_whole_numbers(file, "rank")),
        "tables_of": _ranks_inside(find_hdf5_group(file, "ranks"), len(hosts)),
    }


def _ranks_inside(group: Any, count: int) -> frozenset[int]:
    """Return the ranks whose tables are in the very file; of the others it has links."""
    return frozenset(
        rank
        for rank in (range(count) if group is not None else ())
        if type(group.get(f"{rank:03d}", getlink=True)).__name__ == "HardLink"
    )


def _check_header(attrs: dict[str, Attribute], where: str) -> None:
    for name in _COUNTS:
        # Not isinstance: True is an int, too.
        if type(attrs.get(name)) is not int:
            raise UnexpectedContentError(
                f"/ (attribute {name})",
                f"is {attrs.get(name, 'missing')!r}; expected is a whole number",
            )
    if int(attrs["format_version"]) != RUN_VERSION:
        raise RunFolderError(
            f"the run has format version {attrs['format_version']}, known is {RUN_VERSION}",
            where=where,
            remedy="Read it with the version of clicooper-hpc that wrote it.",
        )
    for name in (*index_text_names(), "layout", "status"):
        if not isinstance(attrs.get(name), str):
            raise UnexpectedContentError(
                f"/ (attribute {name})", f"is {attrs.get(name, 'missing')!r}; expected is a text"
            )
    if attrs["layout"] not in ("shards", "single"):
        raise UnexpectedContentError(
            "/ (attribute layout)", f"is {attrs['layout']!r}; expected is 'shards' or 'single'"
        )


def _read_pipeline(group: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if group is None:
        return found
    for name in ("cuts", "layer", "segment"):
        if name in group:
            found[name] = hdf5_whole_numbers(group, name)
    if "layer_names" in group:
        found["layer_names"] = hdf5_texts(group, "layer_names")
    schedule = find_hdf5_text(group, "schedule")
    if schedule is not None:
        found["schedule"] = schedule
    return found

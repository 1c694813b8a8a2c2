"""A run folder as plain values, read with h5py as docs/hdf5.md describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import independent_docs as docs
import numpy as np
from independent_formats import MismatchError, read_safetensors, tagged

#: What h5py raises at damage.
DAMAGE = (OSError, KeyError, ValueError, TypeError, RuntimeError)

#: So many files of evidence of two ledgers are looked at, and so many bytes of one.
MOST_EVIDENCE, MOST_EVIDENCE_BYTES = 1024, 16384

Rows = dict[str, np.ndarray]
Tables = dict[str, "Rows | MismatchError"]
Tensors = dict[str, tuple[str, list[int], bytes]]
#: A safetensors file: its tensors and its texts.
Delivered = tuple[Tensors, dict[str, str]]


@dataclass
class RunFolder:
    """What a run folder holds; for what could not be read, the reason."""

    attributes: dict[str, Any] = field(default_factory=dict)
    #: Length of `rank`; whether attribute `num_ranks` says the same is a matter of the checks.
    num_ranks: int = 0
    index: dict[str, Any] = field(default_factory=dict)
    #: By rank: table name to columns, whole rows only.
    tables: dict[int, Tables | MismatchError] = field(default_factory=dict)
    envelopes: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Why there is no ledger.
    missing_ledger: str | None = None
    shard_digests: list[str] = field(default_factory=list)
    file_digests: dict[int, str] = field(default_factory=dict)
    delivered: dict[int, Delivered | MismatchError] = field(default_factory=dict)
    #: Names of files that only a run with proofs has.
    proof_files: list[str] = field(default_factory=list)
    #: By name: files of evidence of two ledgers, unchecked.
    evidence: dict[str, bytes] = field(default_factory=dict)
    #: By (stage, segment).
    kept: dict[tuple[int, int], Delivered | MismatchError] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """An attribute or scalar as Python has it: text for bytes, bool, int, float."""
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode()
    if isinstance(value, np.uint8):
        return bool(value)
    return value.item() if isinstance(value, np.generic) else value


def _dataset(group: h5py.Group, name: str) -> Any:
    """A dataset by its hard links; a link to elsewhere is not followed."""
    place: Any = group
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(
            place.get(part, getlink=True), h5py.HardLink
        ):
            raise MismatchError(f"{name} is not there")
        place = place[part]
    if not isinstance(place, h5py.Dataset):
        raise MismatchError(f"{name} is no dataset")
    value = place[()]
    if isinstance(value, np.ndarray) and value.dtype.kind == "S":
        # Characters along the last axis make a text.
        if value.ndim < 2 or value.dtype != "S1":
            raise MismatchError(f"{name} is no array of characters")
        return np.ascontiguousarray(value).view(f"S{value.shape[-1]}")[..., 0]
    return value


def read_table(group: h5py.Group, name: str) -> Rows | MismatchError:
    """Whole rows of a table: those whose `complete` is 1."""
    try:
        whole = np.asarray(_dataset(group, f"{name}/complete")) == 1
        columns = {
            column: _dataset(group, f"{name}/{column}") for column in docs.tables()[name].columns
        }
    except MismatchError as error:
        return error
    if any(len(values) != len(whole) for values in columns.values()):
        return MismatchError(f"columns of table {name} have different lengths")
    return {column: values[whole] for column, values in columns.items()}


def read_tables(group: h5py.Group, names: tuple[str, ...]) -> Tables:
    """Tables of one rank."""
    return {name: read_table(group, name) for name in names}


def readable(tables: Tables | MismatchError, name: str) -> Rows:
    """One table, or the reason why it cannot be read."""
    found = tables if isinstance(tables, MismatchError) else tables[name]
    if isinstance(found, MismatchError):
        raise found
    return found


def column(tables: Tables | MismatchError, table: str, name: str) -> list[bytes]:
    """Texts of a column; none if the table cannot be read."""
    try:
        return [bytes(value) for value in readable(tables, table)[name]]
    except MismatchError:
        return []


def _open_shard(path: Path) -> h5py.File:
    """A rank's file; what a killed rank left opens for a concurrent reader only."""
    try:
        return h5py.File(path, "r")
    except OSError:
        return h5py.File(path, "r", swmr=True)


def _safetensors(path: Path) -> Delivered | MismatchError:
    try:
        return read_safetensors(path.read_bytes())
    except (OSError, MismatchError) as error:
        return MismatchError(f"{path.name}: {error}")


def _read_index(file: h5py.File) -> dict[str, Any]:
    """What the digest `index` is taken of, as plain values."""

    def values(name: str) -> Any:
        value = _dataset(file, name)
        if not isinstance(value, np.ndarray):
            return plain(value)
        return [plain(v) for v in value]

    # Written at the end of the run.
    results = {name: values(f"results/{name}") for name in file.get("results", ())}
    return {
        "attrs": {name: plain(value) for name, value in file.attrs.items() if name != "status"},
        "hosts": values("hosts"),
        "cuts": values("pipeline/cuts"),
        "schedule": values("pipeline/schedule"),
        "layer_names": values("pipeline/layer_names"),
        "privacy": {name: plain(value) for name, value in file["privacy"].attrs.items()},
        "promised": values("privacy/promised"),
        "card": values("privacy/card") if "card" in file["privacy"] else "",
        "results": results,
        "scales": [values("rank"), values("pipeline/layer"), values("pipeline/segment")],
    }


def read_run_folder(folder: Path) -> RunFolder:
    """Read everything that is checked; `MismatchError` only where there is no run to look at."""
    run = RunFolder()
    known = {"format": "clicooper-run", "format_version": 2}
    try:
        with h5py.File(folder / "run.h5", "r") as file:
            run.index = _read_index(file)
            run.num_ranks = len(run.index["scales"][0])
            run.attributes = {name: plain(value) for name, value in file.attrs.items()}
            if any(run.attributes.get(name) != value for name, value in known.items()):
                raise MismatchError("run.h5 is of another format")
            if run.attributes.get("layout") == "shards":
                if "shard_digests" in file:
                    run.shard_digests = [plain(v) for v in _dataset(file, "shard_digests")]
            else:
                for rank in range(run.num_ranks):
                    group = file[f"ranks/{rank:03d}"]
                    run.tables[rank] = read_tables(group, docs.tables_of(rank))
    except DAMAGE as error:
        raise MismatchError(f"run.h5: {error}") from None
    num_ranks = run.num_ranks
    for rank in range(num_ranks) if run.attributes["layout"] == "shards" else ():
        path = folder / f"rank-{rank:03d}.h5"
        try:
            data = path.read_bytes()
            run.file_digests[rank] = hashlib.sha256(b"clicooper/shard\x00" + data).hexdigest()
            with _open_shard(path) as shard:
                if plain(shard.attrs.get("run_id")) != run.attributes["run_id"]:
                    raise MismatchError("it belongs to another run")
                if plain(shard.attrs.get("rank")) != rank:
                    raise MismatchError("it is of another rank")
                run.tables[rank] = read_tables(shard, docs.tables_of(rank))
        except (*DAMAGE, MismatchError) as error:
            run.tables[rank] = MismatchError(f"{path.name}: {error}")
    if isinstance(run.tables[0], MismatchError):
        run.missing_ledger = str(run.tables[0])
    run.envelopes = column(run.tables[0], "ledger", "envelope")
    notes = column(run.tables[0], "checkpoints", "note")
    run.notes = [note.decode(errors="replace") for note in notes]
    for segment in range(1, num_ranks):
        run.delivered[segment] = _safetensors(
            folder / "delivery" / f"segment-{segment:03d}.safetensors"
        )
    for path in sorted((folder / "checkpoints").glob("stage-*/segment-*.safetensors")):
        at = path.parent.name.removeprefix("stage-"), path.stem.removeprefix("segment-")
        if at[0].isdigit() and at[1].isdigit():
            run.kept[int(at[0]), int(at[1])] = _safetensors(path)
    run.evidence = _evidence(folder / "equivocation")
    of_proofs = ("checkpoints/stage-*", "private/rank-*/identity.pem", "private/rank-*/mark.key")
    run.proof_files = [str(path) for pattern in of_proofs for path in sorted(folder.glob(pattern))]
    return run


def _evidence(folder: Path) -> dict[str, bytes]:
    """Regular files of the folder of evidence, no longer than such a file can be."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())[:MOST_EVIDENCE]
        if not path.is_symlink() and path.is_file() and path.stat().st_size <= MOST_EVIDENCE_BYTES
    }


def rows_digest(tables: Mapping[str, Rows]) -> str:
    """Tagged digest of rows: a line for each column, tables by name, columns in their order."""
    lines = []
    for table in sorted(tables):
        for column in docs.tables()[table].columns:
            values = tables[table][column]
            little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
            digest = hashlib.sha256(little.tobytes()).hexdigest()
            lines.append(f"{table}\t{column}\t{little.dtype.str}\t{len(values)}\t{digest}\n")
    return tagged("rows", "".join(lines).encode())


def index_digest(index: Mapping[str, Any]) -> str:
    """Tagged digest of the index: JSON with sorted keys, no spaces and ASCII escapes."""
    return tagged("index", json.dumps(index, sort_keys=True, separators=(",", ":")).encode())

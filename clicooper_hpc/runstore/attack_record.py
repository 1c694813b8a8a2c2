"""`AttackRecord`: findings of attacks on a run, as one HDF5 file of a table and arrays.

Layout of ``attacks.h5``: root attributes (format, run id, date, versions, how the attacks were
run); the table ``findings``, one row per figure; ``arrays/ATTACK/PARTY/SEED/NAME`` for pictures and
curves. The same bytes travel between ranks (`pack_attack_record`) and lie on disk
(`write_attack_record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.hdf5.files import (
    LIBVER,
    Attribute,
    create_hdf5_file,
    set_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_bytes, read_hdf5_file
from clicooper_hpc.runstore.hdf5.superblock import SUPERBLOCK_BYTES, closed_superblock
from clicooper_hpc.runstore.hdf5.typed import (
    hdf5_dataset,
    hdf5_group,
    read_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.frames import decode_texts, rows_to_frame
from clicooper_hpc.runstore.tables.schema import COMPLETE, Column, Table
from clicooper_hpc.runstore.tables.storage import (
    create_stored_table,
    read_stored_rows,
    stored_table,
    write_stored_rows,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ATTACKS_FILE",
    "ArrayKey",
    "AttackRecord",
    "pack_attack_record",
    "read_attack_findings",
    "read_attack_record",
    "unpack_attack_record",
    "write_attack_record",
]

#: Name of the file in the private folder of a run.
ATTACKS_FILE: Final = "attacks.h5"
_FORMAT: Final = "clicooper-attacks"
_VERSION: Final = 1
_AXIS: Final = "finding"

#: Attack, party, seed and name of an array.
ArrayKey = tuple[str, str, int, str]
_Value = str | float | int

_TEXTS: Final = {
    "attack": "Name of the attack",
    "variant": "How it was done",
    "party": "Who attacked",
    "metric": "What was measured",
    "kind": "paper: the paper's own metric; honest: what such an attacker really gains",
    "note": "Knowledge used, sizes; or why there is no figure",
}
_NUMBERS: Final = {
    "value": "Score; NaN where there is none",
    "low": "Lower end of the 95 % confidence interval; NaN without one",
    "high": "Upper end of the 95 % confidence interval; NaN without one",
    "chance": "Score of a blind guess; NaN where that means nothing",
    "baseline": "Score of an attacker who knows only what is public; NaN if none",
    "ceiling": "What differential privacy lets nobody exceed; NaN without one",
}


@dataclass(frozen=True, slots=True)
class AttackRecord:
    """Findings of attacks on one run.

    Parameters
    ----------
    attributes
        How the attacks were run, by name; ``run_id`` at least.
    findings
        Values by column: the fields of
        `clicooper_hpc.attacks.harness.attack.AttackResult`.
    arrays
        Pictures and curves: booleans, integers or floats of any shape.
    """

    attributes: Mapping[str, Attribute]
    findings: Sequence[Mapping[str, _Value]]
    arrays: Mapping[ArrayKey, NDArray[np.generic]]


def write_attack_record(path: Path, record: AttackRecord) -> None:
    """Write the file ``path`` in one step; what was there before is replaced.

    Raises
    ------
    EnvironmentUnfitError
        The file system is full or refuses; an older file is untouched.
    """
    # Among the arrays are the owner's own images.
    with create_hdf5_file(path, mode=0o600) as file:
        _fill_attack_file(file, record)


def read_attack_record(path: Path) -> AttackRecord:
    """Read what `write_attack_record` wrote.

    Raises
    ------
    RunFolderError
        The file is missing, damaged, or holds something else.
    """
    return read_hdf5_file(path, lambda file: _read_attack_file(file, str(path)))


def read_attack_findings(path: str | Path) -> pd.DataFrame:
    """Return the findings in a run folder (or in the file itself), one row per figure.

    ``frame.attrs`` holds how the attacks were run.

    Raises
    ------
    RunFolderError
        No attacks were run, or the file is damaged.
    """
    place = Path(path)

    def read(file: Any) -> pd.DataFrame:
        about = _checked_attack_attributes(file, str(place))
        group = hdf5_group(file, "findings")
        frame = rows_to_frame(
            _findings_table(group), {0: read_stored_rows(group)}, rank_column=False
        )
        # The row number is the frame's own index already.
        frame = frame.drop(columns=_AXIS)
        frame.attrs.update(about)
        return frame

    return read_hdf5_file(
        RunFolder(place).private / ATTACKS_FILE if place.is_dir() else place, read
    )


def pack_attack_record(record: AttackRecord) -> bytes:
    """Return the bytes of the file that `write_attack_record` would write."""
    with h5py.File(
        "record.memory", "w", driver="core", backing_store=False, libver=LIBVER, locking=False
    ) as file:
        _fill_attack_file(file, record)
        file.flush()
        # The bytes of a file, so that MPI carries what the disk would hold.
        image: bytes = file.id.get_file_image()
    # As in `create_hdf5_file`: the image of an open file is marked as open.
    return closed_superblock(image) + image[SUPERBLOCK_BYTES:]


def unpack_attack_record(content: bytes, *, where: str) -> AttackRecord:
    """Undo `pack_attack_record`.

    Raises
    ------
    RunFolderError
        Naming ``where``, if the bytes are no such file.
    """
    return read_hdf5_bytes(content, lambda file: _read_attack_file(file, where), where=where)


def _fill_attack_file(file: Any, record: AttackRecord) -> None:
    set_hdf5_attributes(file, {"format": _FORMAT, "format_version": _VERSION, **record.attributes})
    columns = _finding_columns(record)
    table = Table(
        "findings",
        _AXIS,
        "What attacks found out, one row per figure",
        (
            Column(_AXIS, "int64", "1", "Row, counted from 0"),
            *(
                Column(name, columns[name].dtype.str, "text", long_name)
                for name, long_name in _TEXTS.items()
            ),
            *(Column(name, "float64", "1", long_name) for name, long_name in _NUMBERS.items()),
            Column("seed", "int64", "1", "Seed of the attacker's chance"),
            Column("run_id", columns["run_id"].dtype.str, "text", "The run that was attacked"),
        ),
    )
    group = create_stored_table(file, table, live=False)
    write_stored_rows(dict(group.items()), 0, columns)
    arrays = file.create_group("arrays")
    for (attack, party, seed, name), values in record.arrays.items():
        place = arrays.require_group(f"{attack}/{party}/{seed}")
        whole = np.asarray(values)
        dataset = place.create_dataset(
            name,
            data=whole,
            # A chunk, and with it checksum and compression, needs at least one element.
            **({"compression": "gzip", "fletcher32": True} if whole.ndim and whole.size else {}),
        )
        set_hdf5_attributes(
            dataset, {"units": "1", "long_name": f"{name} of {attack} by {party}, seed {seed}"}
        )


def _finding_columns(record: AttackRecord) -> dict[str, NDArray[Any]]:
    rows = record.findings
    columns: dict[str, NDArray[Any]] = {_AXIS: np.arange(len(rows), dtype=np.int64)}
    for name in _TEXTS:
        columns[name] = _encode_texts([str(row[name]) for row in rows])
    for name in _NUMBERS:
        columns[name] = np.array([row[name] for row in rows], dtype=np.float64)
    columns["seed"] = np.array([row["seed"] for row in rows], dtype=np.int64)
    columns["run_id"] = _encode_texts([str(record.attributes["run_id"])] * len(rows))
    columns[COMPLETE.name] = np.ones(len(rows), dtype=np.uint8)
    return columns


def _encode_texts(values: Sequence[str]) -> NDArray[np.bytes_]:
    # At least 1: HDF5 has no text of length 0.
    raw = [value.encode("utf-8") for value in values]
    return np.array(raw, dtype=f"S{max([1, *map(len, raw)])}")


def _read_attack_file(file: Any, where: str) -> AttackRecord:
    about = _checked_attack_attributes(file, where)
    group = hdf5_group(file, "findings")
    table = _findings_table(group)
    columns = read_stored_rows(group)
    texts = {
        column.name: decode_texts(column, columns[column.name])
        for column in table.columns
        if column.name in _TEXTS
    }
    plain = {name: columns[name].tolist() for name in (*_NUMBERS, "seed")}
    every = {**texts, **plain}
    findings = [
        {name: values[row] for name, values in every.items()} for row in range(len(columns[_AXIS]))
    ]
    arrays: dict[ArrayKey, NDArray[np.generic]] = {}
    stored = hdf5_group(file, "arrays")
    for attack in stored:
        for party in hdf5_group(stored, attack):
            for seed in hdf5_group(stored[attack], party):
                place = hdf5_group(stored[attack][party], seed)
                if not seed.isdecimal():
                    raise UnexpectedContentError(place.name, "is no number of a seed")
                for name in place:
                    values = np.asarray(hdf5_dataset(place, name, kinds="bifu")[()])
                    arrays[attack, party, int(seed), name] = values
    return AttackRecord(about, findings, arrays)


def _findings_table(group: Any) -> Table:
    """Return the table of findings, with the columns that a record needs."""
    table = stored_table(group)
    kinds = {_AXIS: "i", "seed": "i", **dict.fromkeys(_TEXTS, "S"), **dict.fromkeys(_NUMBERS, "f")}
    there = {column.name: np.dtype(column.dtype).kind for column in table.columns}
    for name, kind in kinds.items():
        if there.get(name) != kind:
            raise UnexpectedContentError(
                f"{group.name}/{name}", f"is {there.get(name, 'missing')}; expected is {kind!r}"
            )
    return table


def _checked_attack_attributes(file: Any, where: str) -> dict[str, Attribute]:
    found = read_hdf5_attributes(file)
    if found.pop("format", None) != _FORMAT:
        raise RunFolderError(
            "this HDF5 file holds no findings of attacks",
            where=where,
            remedy="Name a file that `clicooper attack` wrote.",
        )
    # Older versions are read, newer ones refused: their columns may mean something else.
    version = found.pop("format_version", 0)
    if not isinstance(version, int) or version > _VERSION:
        raise RunFolderError(
            f"the findings have format version {version}, known is {_VERSION}",
            where=where,
            remedy="Read them with the version that wrote them, or a newer one.",
        )
    return found

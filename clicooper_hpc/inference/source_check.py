"""What is said of a source of new samples before a model is loaded: its kind, and its shape."""

from __future__ import annotations

import os
from pathlib import Path

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.image_files import is_image_file
from clicooper_hpc.data.importers.import_dataset import KINDS
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.inference.input_check import check_input_shape, describe_shape

__all__ = ["SOURCE_KINDS", "check_source_shape", "checked_source", "source_kind"]

SOURCE_KINDS = ("hdf5", *KINDS)
#: What the embedded digits are called.
EMBEDDED = "digits"
#: Of tables.
_TABLE_ENDINGS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
#: Parts of the names of published archives, of their folders and of files in these.
_SIGNS = {
    "-ubyte": "idx",
    "cifar-100-binary": "cifar100",
    "fine_label_names.txt": "cifar100",
    "cifar-10-binary": "cifar10",
    "cifar-10-batches-bin": "cifar10",
    "batches.meta.txt": "cifar10",
}


def checked_source(source: str | Path, *, kind: str | None, size: int | None) -> str:
    """Return which of `SOURCE_KINDS` the samples at ``source`` are; nothing of them is read.

    Parameters and errors as `clicooper_hpc.inference.sample_source.open_sample_source`.
    """
    path, embedded = Path(source), source == EMBEDDED
    if embedded and kind is None and os.path.lexists(path):
        raise UsageError(
            "a file or folder of this name is here too",
            where=EMBEDDED,
            remedy="Give ./digits for that one, or --kind hdf5 for the embedded digits",
        )
    if not embedded and not os.path.exists(path):
        raise DataError("no such file or folder", where=str(path))
    if not embedded and not path.is_file() and not path.is_dir():
        raise DataError(
            "is no regular file or folder",
            where=str(path),
            remedy="Store what it gives as a file",
        )
    if kind is None and embedded:
        kind = "hdf5"
    kind = source_kind(path) if kind is None else kind
    if kind not in SOURCE_KINDS:
        raise UsageError(
            f"there is no reader {kind!r}",
            where="--kind",
            remedy=f"Use one of {', '.join(SOURCE_KINDS)}",
        )
    if size is not None and (kind != "folder" or size < 1):
        raise UsageError(
            f"size {size} does not apply to {kind}" if kind != "folder" else f"{size} is too small",
            where="--size",
        )
    return kind


def check_source_shape(source: str | Path, kind: str, split: str, shape: tuple[int, ...]) -> None:
    """Refuse samples that a model of rows of ``shape`` does not take, where little tells.

    Those of an archive are only known when they are read.

    Raises
    ------
    DataError
        Rows of an HDF5 data set are of another shape, or samples are images and the model takes
        none.
    """
    if kind == "hdf5":
        with open_dataset(source) as data:
            check_input_shape(data.split(split).input_shape, shape, str(source))
    elif kind == "folder" and (len(shape) != 3 or shape[0] not in (1, 3)):
        raise DataError(
            f"holds images, the model takes {describe_shape(shape)}",
            where=str(source),
            remedy="Give samples as those the run was trained on.",
        )


def source_kind(path: Path) -> str:
    """Return which of `SOURCE_KINDS` lies at ``path``, by its name or by what is in the folder.

    Raises
    ------
    UsageError
        Neither tells.
    """
    name = path.name.lower()
    if name.endswith((".h5", ".hdf5")):
        return "hdf5"
    if name.endswith(".npz"):
        return "npz"
    for ending, kind in _TABLE_ENDINGS.items():
        if name.endswith(ending):
            return kind
    if is_image_file(path) and path.is_file():
        return "folder"
    inside = sorted(os.listdir(path)) if path.is_dir() else [name]
    for sign, kind in _SIGNS.items():
        if any(sign in one for one in inside):
            return kind
    if path.is_dir():
        return "folder"
    raise UsageError(
        "is of no kind that its name tells",
        where=str(path),
        remedy=f"Give --kind, one of {', '.join(SOURCE_KINDS)}",
    )

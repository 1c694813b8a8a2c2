"""The file ``private/confusion.h5``: how the delivered model did class by class; for the owner.

It lies in the private folder, because counts under the names of the classes tell trainers what
their secret names stand for (docs/decisions.md). Any program for HDF5 or netCDF-4 opens it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.hdf5.files import (
    add_hdf5_dataset,
    create_hdf5_file,
    set_hdf5_attributes,
)
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.typed import (
    find_hdf5_format,
    hdf5_dataset,
    read_hdf5_attribute,
    read_hdf5_text_attribute,
)
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError

if TYPE_CHECKING:
    from clicooper_hpc.runstore.reader import Run

__all__ = ["CONFUSION_FILE", "ClassFigures", "read_class_figures", "write_class_figures"]

#: Name of the file in the private folder of a run.
CONFUSION_FILE: Final = "confusion.h5"
_FORMAT: Final = "clicooper-confusion"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Names of the K classes, and how the delivered model did on clean held-out samples of each."""

    class_names: tuple[str, ...]
    confusion: ConfusionMatrix


def write_class_figures(
    path: Path, class_names: Sequence[str], confusion: ConfusionMatrix, *, run_id: str
) -> None:
    """Write the file ``path`` (mode 0600) in one step; what was there before is replaced.

    Raises
    ------
    EnvironmentUnfitError
        The file system is full or refuses; an older file is untouched.
    """
    with create_hdf5_file(path, mode=0o600) as file:
        set_hdf5_attributes(
            file,
            {
                "format": _FORMAT,
                "format_version": _VERSION,
                "run_id": run_id,
                "Conventions": "CF-1.11",
            },
        )
        number = np.arange(len(class_names))
        axes = []
        for name, whose in (("true_class", "True class"), ("predicted_class", "Predicted class")):
            axis = add_hdf5_dataset(
                file, name, number, units="1", long_name=f"{whose}, counted from 0"
            )
            axis.make_scale(name)
            axes.append(axis)
        counts = add_hdf5_dataset(
            file,
            "confusion",
            confusion.counts,
            units="1",
            long_name="Clean held-out samples by true class (rows) and predicted class (columns)",
            axis=axes[0],
        )
        counts.dims[1].label = "predicted_class"
        counts.dims[1].attach_scale(axes[1])
        _add_names(file, class_names, axes[0])
        for name, values, long_name in (
            ("recall", confusion.recalls, "Of the samples of a class the share predicted as it"),
            ("precision", confusion.precisions, "Of the predictions of a class the share right"),
        ):
            add_hdf5_dataset(file, name, values, units="1", long_name=long_name, axis=axes[0])
        for name, value, long_name in (
            ("balanced_accuracy", confusion.balanced_accuracy, "Mean recall of the classes"),
            ("majority_share", confusion.majority_share, "Share of the largest class"),
            ("chance", confusion.chance, "Accuracy of guessing: 1 / classes"),
        ):
            add_hdf5_dataset(file, name, value, units="1", long_name=long_name)


def _add_names(file: Any, class_names: Sequence[str], axis: Any) -> None:
    raw = [name.encode("utf-8") for name in class_names]
    width = max([1, *map(len, raw)])
    # Letters in a dimension of their own: netCDF libraries know no text of fixed length.
    letters = np.array(raw, dtype=f"S{width}").view("S1").reshape(len(raw), width)
    length = file.create_dataset("name_length", data=np.zeros(width, ">f4"))
    # So netCDF spells a dimension without numbers; with numbers xarray would not join the letters.
    length.make_scale(f"This is a netCDF dimension but not a netCDF variable.{width:10d}")
    names = add_hdf5_dataset(
        file, "class_names", letters, units="text", long_name="Names of the classes", axis=axis
    )
    names.dims[1].label = "name_length"
    names.dims[1].attach_scale(length)
    set_hdf5_attributes(names, {"_Encoding": "utf-8"})


def read_class_figures(run: Run) -> ClassFigures | None:
    """Return what the owner of ``run`` keeps of its classes; None if there is nothing.

    Nothing is there for whoever may not enter the private folder, in a run without an end, and in
    one of an earlier version.

    Raises
    ------
    RunFolderError
        The file is damaged, of another run, or not of the results that the run ended with.
    """
    path = run.folder.private / CONFUSION_FILE
    try:
        path.lstat()
    except (FileNotFoundError, PermissionError):
        return None
    figures, run_id = read_hdf5_file(path, lambda file: _read_figures(file, str(path)))
    confusion = figures.confusion
    samples, accuracy = (run.results.get(f"clean_{name}") for name in ("samples", "accuracy"))
    # A run that ends has them written before its results, so alone they are of a run going on.
    fits = samples is None or (
        samples == confusion.samples
        and isinstance(accuracy, float)
        and abs(accuracy * confusion.samples - confusion.right) < 0.5
    )
    if run_id != run.attrs["run_id"] or not fits:
        raise RunFolderError(
            "the counts by class are of another run or of other results than run.h5",
            where=str(path),
            remedy="Bring back the file the run wrote.",
        )
    return figures


def _read_figures(file: Any, where: str) -> tuple[ClassFigures, str]:
    if find_hdf5_format(file) != _FORMAT:
        raise RunFolderError(
            "this HDF5 file holds no counts by class",
            where=where,
            remedy="Bring back the file the run wrote.",
        )
    version = read_hdf5_attribute(file, "format_version")
    if not isinstance(version, int) or version > _VERSION:
        raise RunFolderError(
            f"the counts by class have format version {version}, known is {_VERSION}",
            where=where,
            remedy="Read them with the version that wrote them, or a newer one.",
        )
    counts = hdf5_dataset(file, "confusion", kinds="i", dimensions=2)[()].astype(np.int64)
    letters = hdf5_dataset(file, "class_names", kinds="S", dimensions=2)[()]
    if not len(counts) or counts.shape != (len(letters), len(letters)) or counts.min() < 0:
        raise UnexpectedContentError(
            "/confusion", f"is of shape {counts.shape} with counts from {counts.min(initial=0)}"
        )
    try:
        names = tuple(row.tobytes().rstrip(b"\0").decode("utf-8") for row in letters)
    except UnicodeDecodeError:
        raise UnexpectedContentError("/class_names", "is a text that is not UTF-8") from None
    figures = ClassFigures(names, ConfusionMatrix(counts))
    return figures, read_hdf5_text_attribute(file, "run_id")

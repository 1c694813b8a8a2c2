"""Finding the images of a folder tree: one folder per class, inside splits or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clicooper_hpc.data.importers.exact_reader import reader_errors
from clicooper_hpc.data.stratified_split import hashed_split_order, stratified_test_mask
from clicooper_hpc.errors import DataError

__all__ = ["IMAGE_ENDINGS", "TEST_FRACTION", "ImageTree", "folder_entries", "list_image_tree"]

TEST_FRACTION = 0.2
"""Held out of every class when the folder has no test part of its own."""

IMAGE_ENDINGS = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
_CLUTTER = frozenset(("thumbs.db", "desktop.ini"))


@dataclass(frozen=True, slots=True)
class ImageTree:
    """Class names, and for each split its (file, class number) in the order to be written."""

    class_names: tuple[str, ...]
    splits: dict[str, list[tuple[Path, int]]]


def list_image_tree(source: Path) -> ImageTree:
    """List all images of a tree, shuffled in the same way on every machine.

    The order is that of the SHA-256 of each file's path below its split's folder: mixed, because
    a validation part is cut off the end, and independent of the file system.

    Parameters
    ----------
    source
        ``train/CLASS/*``, ``test/CLASS/*`` and optionally ``validation/CLASS/*``; or ``CLASS/*``,
        of which a fifth of every class is held out as the test split.

    Raises
    ------
    DataError
        Naming the file or folder that does not fit: an empty class, a class only in one split's
        folder, a file that is not an image, a folder inside a class folder.
    """
    if not source.is_dir():
        raise DataError("is not a folder", where=str(source))
    top = {path.name: path for path in folder_entries(source) if path.is_dir()}
    # Neither name: the folders are classes, and a test part must be cut off here.
    if "train" not in top and "test" not in top:
        names, found = _class_folders(source)
        test = _hold_out_test(source, found)
        splits = {
            "train": [item for item, held in zip(found, test, strict=True) if not held],
            "test": [item for item, held in zip(found, test, strict=True) if held],
        }
        return ImageTree(
            names, {name: _in_hashed_order(source, part) for name, part in splits.items()}
        )
    odd = sorted(set(top) - {"train", "validation", "test"})
    # A misspelt "valid" beside train and test would otherwise be left out in silence.
    if odd or not {"train", "test"} <= set(top):
        raise DataError(
            f"has the folders {', '.join(sorted(top))}",
            where=str(source),
            remedy="Name them train, test and (optionally) validation, with class folders inside",
        )
    parts = {name: _class_folders(top[name]) for name in sorted(top)}
    names = parts["train"][0]
    # Class numbers are positions in the sorted names, so the names must be the same everywhere.
    for name, (found_names, _) in parts.items():
        if found_names != names:
            differ = sorted(set(found_names) ^ set(names))
            raise DataError(
                f"has other classes than train: {', '.join(differ[:5])}", where=str(top[name])
            )
    return ImageTree(
        names, {name: _in_hashed_order(top[name], part[1]) for name, part in parts.items()}
    )


def folder_entries(folder: Path) -> list[Path]:
    """Return what is in a folder, by name, without hidden files and file managers' clutter."""
    with reader_errors(folder.__str__):
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in _CLUTTER
        )


def _class_folders(folder: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    classes = [path for path in folder_entries(folder) if path.is_dir()]
    if len(classes) < 2:
        raise DataError(f"has {len(classes)} class folders, needs two or more", where=str(folder))
    found: list[tuple[Path, int]] = []
    for number, class_folder in enumerate(classes):
        images = folder_entries(class_folder)
        if not images:
            raise DataError("holds no image", where=str(class_folder))
        for path in images:
            # Refused, not skipped: a format we do not know would quietly shrink the data set.
            if path.is_dir() or path.suffix.lower() not in IMAGE_ENDINGS:
                raise DataError(
                    "is a folder inside a class folder" if path.is_dir() else "is not an image",
                    where=str(path),
                    remedy=f"A class folder holds only images ({', '.join(sorted(IMAGE_ENDINGS))})",
                )
            found.append((path, number))
    return tuple(path.name for path in classes), found


def _image_keys(root: Path, found: list[tuple[Path, int]]) -> list[str]:
    return [path.relative_to(root).as_posix() for path, _ in found]


def _hold_out_test(source: Path, found: list[tuple[Path, int]]) -> list[bool]:
    labels = np.asarray([number for _, number in found], dtype=np.int64)
    count = round(TEST_FRACTION * len(found))
    test = stratified_test_mask(labels, _image_keys(source, found), count)
    if not test.any():
        raise DataError(
            f"has only {len(found)} images, too few to hold any out for testing",
            where=str(source),
        )
    return [bool(held) for held in test]


def _in_hashed_order(root: Path, found: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    return [found[i] for i in hashed_split_order(_image_keys(root, found))]

"""Checks of class numbers and class names, made when a file is opened, imported and written."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError

__all__ = ["MAX_CLASSES", "check_class_labels", "check_class_names", "numbered_class_names"]

MAX_CLASSES = 65_536
"""Largest K: bounds what a wild label can make us allocate."""

#: Characters of a name. Files of fixed-length strings are as wide as the longest, in every row.
_MOST_CHARACTERS = 1000
#: Characters of a name that an error shows.
_MOST_SHOWN = 40


def check_class_labels(
    labels: NDArray[Any], where: str, *, first_row: int, num_classes: int = MAX_CLASSES
) -> None:
    """Raise DataError naming ``where`` and the row if a label is outside [0, num_classes).

    Parameters
    ----------
    labels
        Integers of any width, shape (n,).
    first_row
        Row number of ``labels[0]`` in the place named by ``where``.
    """
    # Both ends: a signed label below 0 would index class names from the back without an error.
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"label {int(labels[row])} is outside 0..{num_classes - 1}",
            where=f"{where}, row {first_row + row}",
        )


def check_class_names(names: tuple[str, ...], where: str) -> None:
    """Raise DataError unless there are 2..MAX_CLASSES printable names, none empty or twice.

    Nor may one be longer than 1,000 characters.
    """
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(
            f"has {len(names)} class{'es' * (len(names) != 1)}, needs 2 to {MAX_CLASSES:,}",
            where=where,
            remedy="Take the column or folders that say which class each sample is of",
        )
    # Twice the same name would make two classes one for whoever reads results by name.
    twice = sorted(name for name, count in Counter(names).items() if count > 1 or name == "")
    if twice:
        shown = ", ".join(repr(name[:_MOST_SHOWN]) for name in twice[:4])
        raise DataError(f"class names are empty or repeat: {shown}", where=where)
    # Names are printed and stored as UTF-8 up to the first NUL.
    for name in names:
        if len(name) > _MOST_CHARACTERS:
            raise DataError(
                f"the class name {name[:_MOST_SHOWN]!r}... has {len(name):,} characters, at most "
                f"{_MOST_CHARACTERS:,} are allowed",
                where=where,
            )
        if not name.isprintable():
            raise DataError(
                f"the class name {name[:_MOST_SHOWN]!r} has control characters or is no Unicode",
                where=where,
            )


def numbered_class_names(highest_label: int) -> tuple[str, ...]:
    """Name classes "0", "1", ... up to the highest label, for sources that carry no names."""
    return tuple(str(number) for number in range(highest_label + 1))

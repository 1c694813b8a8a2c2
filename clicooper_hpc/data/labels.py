"""One check of class numbers, used when a file is opened, imported and written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.h5_format import MAX_CLASSES
from clicooper_hpc.errors import DataError

__all__ = ["check_labels", "numbered_names"]


def check_labels(
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
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"label {int(labels[row])} is outside 0..{num_classes - 1}",
            where=f"{where}, row {first_row + row}",
        )


def numbered_names(highest_label: int) -> tuple[str, ...]:
    """Name classes "0", "1", ... up to the highest label, for sources that carry no names."""
    return tuple(str(number) for number in range(highest_label + 1))

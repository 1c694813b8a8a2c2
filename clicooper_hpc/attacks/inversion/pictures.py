"""One figure of an inversion: originals beside what the attacker made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import EnvironmentUnfitError

__all__ = ["save_pictures"]

_FIRST, _LAST = "originals", "mean image"


def save_pictures(
    arrays: Mapping[str, NDArray[np.generic]], path: Path, *, title: str, shown: int = 8
) -> None:
    """Write a figure with a row of originals, one for each variant, and one of the mean image.

    Parameters
    ----------
    arrays
        `Outcome.arrays` of an inversion: ``"originals"`` and variants float32
        [n, channels, height, width] in [0, 1], ``"mean image"`` with n = 1, repeated.
    path
        Of the figure; its ending says the format.
    title
        Above the figure.
    shown
        Pictures in a row.

    Raises
    ------
    EnvironmentUnfitError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentUnfitError(
            "figures need matplotlib", where="attack", remedy="Install clicooper-hpc[report]."
        ) from error
    variants = [name for name in arrays if name not in (_FIRST, _LAST)]
    names = [_FIRST, *variants, *([_LAST] if _LAST in arrays else [])]
    columns = min(shown, len(arrays[_FIRST]))
    figure = Figure(figsize=(1.1 * columns + 2.4, 1.1 * len(names) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(names), columns, squeeze=False)
    for line, name in zip(axes, names, strict=True):
        pictures = np.asarray(arrays[name], dtype=np.float32)
        for place, axis in enumerate(line):
            axis.imshow(_picture(pictures[place % len(pictures)]), cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(
            name.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=9
        )
    figure.savefig(path, dpi=150)


def _picture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [height, width, 3] or [height, width] for one of 3 or any other number of channels."""
    cut = np.clip(image, 0.0, 1.0)
    return np.moveaxis(cut, 0, 2) if len(cut) == 3 else cut.mean(axis=0)

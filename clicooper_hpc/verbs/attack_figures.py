"""Figures of what attacks found: originals beside reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.pictures import save_pictures
from clicooper_hpc.runstore.attacks import AttackRecord

__all__ = ["draw_reconstructions"]

_SHOWN: Final = 12


def draw_reconstructions(record: AttackRecord, folder: Path) -> tuple[Path, ...]:
    """Write ``ATTACK-PARTY.png`` for each inversion in ``record``, of its first seed.

    They show the owner's images: keep them where only the owner reads.
    """
    found: dict[tuple[str, str], dict[str, NDArray[np.generic]]] = {}
    for (attack, party, seed, name), values in record.arrays.items():
        if seed == 0:
            found.setdefault((attack, party), {})[name] = values
    paths = []
    for (attack, party), arrays in found.items():
        if "originals" in arrays:
            path = folder / f"{attack}-{party.replace(' ', '-')}.png"
            save_pictures(arrays, path, title=f"{attack}, {party}", shown=_SHOWN)
            paths.append(path)
    return tuple(paths)

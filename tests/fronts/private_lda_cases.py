"""A private and a public data set whose classes lie along other directions, and a job over both.

Rows are vectors of 24 numbers. Classes, private and public, differ in the last 8 coordinates, where
rows vary little; in the first 16 they vary a lot and mean nothing. PCA of public rows cannot tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.data.importers.import_dataset import import_dataset

__all__ = ["CLASSES", "TRAIN", "WIDTH", "draw", "private_lda_job"]

CLASSES, WIDTH, TRAIN = 4, 24, 1200

JOB = """
[data]
path = "private.h5"
validation_rows = 100
[front]
kind = "identity"
projection = "private-lda"
public_data = "public.h5"
whiten = 0.5
normalise = true
[privacy]
epsilon = 8.0
mode = "reproducible-INSECURE"
seed = 5
[labels]
expansion = 2
[model]
options = { widths = [16, 16] }
"""


def draw(
    rows: int, seed: int, classes: int = CLASSES
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows float32 [n, 24] in [0, 1] and classes; ``seed`` 0 and 1 share their classes."""
    rng, labels = np.random.default_rng(seed), np.arange(rows) % classes
    centres = np.zeros((classes, WIDTH))
    centres[:, 16:] = np.random.default_rng(77 + classes).normal(size=(classes, 8)) * 0.06
    spread = np.concatenate([np.full(16, 0.12), np.full(8, 0.03)])
    values = 0.5 + centres[labels] + rng.normal(size=(rows, WIDTH)) * spread
    return values.clip(0, 1).astype(np.float32), labels


def private_lda_job(folder: Path, *overrides: str, text: str = JOB) -> Job:
    """Write both data sets and the job into ``folder``; return the job."""
    if not (folder / "private.h5").exists():
        _write(folder / "private.h5", draw(TRAIN, 0), draw(200, 1))
        _write(folder / "public.h5", draw(800, 2, classes=7), draw(70, 3, classes=7))
    (folder / "job.toml").write_text(text)
    return load_job(folder / "job.toml", overrides)


def _write(path: Path, *parts: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    (x_train, y_train), (x_test, y_test) = parts
    source = path.with_suffix(".npz")
    np.savez(source, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    import_dataset("npz", source, path)

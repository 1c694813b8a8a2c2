"""The embedded data set: 1797 handwritten digits of 8x8 grey pixels, part of scikit-learn.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test part).
"""

from __future__ import annotations

import numpy as np

from clicooper_hpc.data.row_store import ArrayRowStore
from clicooper_hpc.data.split import Split
from clicooper_hpc.data.stratified_split import stratified_test_mask

__all__ = ["load_digits_splits"]

_TEST_COUNT = 360


def load_digits_splits() -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return class names and the fixed, class-stratified splits: 1437 train, 360 test.

    Rows are float32 images of shape (8, 8, 1) with values k/16 in [0, 1].
    """
    # Imported here: scikit-learn takes a second to load and HDF5 files do not need it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Stored as 0..16; the other sets come as 0..1 too, so one clip norm has one meaning.
    images = (bunch.images / 16).astype(np.float32)[..., None]
    labels = bunch.target.astype(np.int64)
    # By a hash, not by a generator: the published figures stand on this split, whatever the version
    # of NumPy or scikit-learn.
    test = stratified_test_mask(labels, [f"digits/{i}" for i in range(len(labels))], _TEST_COUNT)
    splits = {
        name: Split(
            name,
            ArrayRowStore(images[part], f"digits:/{name}/x"),
            ArrayRowStore(labels[part], f"digits:/{name}/y"),
        )
        for name, part in (("train", ~test), ("test", test))
    }
    return tuple(str(name) for name in bunch.target_names), splits

"""The embedded data set: 1797 handwritten digits of 8x8 grey pixels, part of scikit-learn.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test part).
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import zlib
from pathlib import Path

import numpy as np

from clicooper_hpc.data.row_store import ArrayRowStore
from clicooper_hpc.data.split import Split
from clicooper_hpc.data.stratified_split import stratified_test_mask
from clicooper_hpc.errors import DataError

__all__ = ["load_digits_splits"]

_TEST_COUNT = 360
_TABLE_SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


def load_digits_splits() -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return class names and the fixed, class-stratified splits: 1437 train, 360 test.

    Rows are float32 images of shape (8, 8, 1) with values k/16 in [0, 1].
    """
    table = np.loadtxt(io.BytesIO(_stored_table()), delimiter=",", dtype=np.int64)
    # Stored as 0..16; the other sets come as 0..1 too, so one clip norm has one meaning.
    images = (table[:, :64].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    labels = table[:, 64]
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
    return tuple(str(digit) for digit in range(10)), splits


def _stored_table() -> bytes:
    """Return the comma-separated text of 1797 lines: 64 pixels and the digit."""
    # Not by scikit-learn's own function: importing it takes longer than a short run trains.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError(
            "the digits come with scikit-learn, which is not installed",
            where='data.path = "digits"',
            remedy="Install it: pip install scikit-learn",
        )
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"the file cannot be read: {error}", where=str(path)) from error
    if hashlib.sha256(text).hexdigest() != _TABLE_SHA256:
        raise DataError(
            "these are not the digits that published figures stand on",
            where=str(path),
            remedy="Install scikit-learn again, in the version of constraints.txt.",
        )
    return text

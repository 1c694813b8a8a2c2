"""What all importers share: kinds, options, targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_builders import idx_files, write_folder

from clicooper_hpc.data.importers.import_dataset import KINDS, import_dataset
from clicooper_hpc.data.tables.arrow_table import TABLE_KINDS
from clicooper_hpc.errors import DataError, UsageError


def test_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no importer 'mnist'.*cifar10, cifar100, idx, folder"):
        import_dataset("mnist", tmp_path, tmp_path / "o.h5")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TABLE_KINDS])
def test_missing_source(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match="none: no such file or folder"):
        import_dataset(kind, tmp_path / "none", tmp_path / "o.h5")
    assert list(tmp_path.iterdir()) == []


def test_size_applies_to_folders_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--size: size 32 does not apply to idx"):
        import_dataset("idx", tmp_path, tmp_path / "o.h5", size=32)
    with pytest.raises(UsageError, match="0 is too small"):
        import_dataset("folder", tmp_path, tmp_path / "o.h5", size=0)


def test_existing_target_is_kept_unless_told(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "m", idx_files())
    target = tmp_path / "o.h5"
    target.write_bytes(b"precious")
    with pytest.raises(DataError, match=r"o\.h5: exists already"):
        import_dataset("idx", source, target)
    (source / "train-labels-idx1-ubyte").write_bytes(b"broken")
    with pytest.raises(DataError, match="train-labels"):
        import_dataset("idx", source, target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "o.h5"]


def test_source_is_never_the_target(tmp_path: Path) -> None:
    source = tmp_path / "s.npz"
    np.savez(source, x_train=np.zeros(3))
    before = source.read_bytes()
    with pytest.raises(DataError, match="both source and target"):
        import_dataset("npz", source, tmp_path / "." / "s.npz", overwrite=True)
    assert source.read_bytes() == before
    # Nor is a file of a folder that is read, on whatever way.
    folder, link = tmp_path / "m", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    (folder / "train-images-idx3-ubyte").write_bytes(b"precious")
    with pytest.raises(DataError, match="lies in the folder that is read"):
        import_dataset("idx", folder, link / "train-images-idx3-ubyte", overwrite=True)
    assert (folder / "train-images-idx3-ubyte").read_bytes() == b"precious"

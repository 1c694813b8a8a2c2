"""What lies at a path, as far as names tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from clicooper_hpc.errors import UsageError
from clicooper_hpc.inference.sample_source import source_kind


@pytest.mark.parametrize(
    ("path", "inside", "kind"),
    [
        ("set.h5", None, "hdf5"),
        ("digits", None, "hdf5"),
        ("set.NPZ", None, "npz"),
        ("one.png", None, "folder"),
        ("cifar-10-binary.tar.gz", None, "cifar10"),
        ("cifar-100-binary.tar.gz", None, "cifar100"),
        ("around", "cifar-10-batches-bin", "cifar10"),
        ("unpacked", "batches.meta.txt", "cifar10"),
        ("unpacked", "fine_label_names.txt", "cifar100"),
        ("mnist", "t10k-images-idx3-ubyte.gz", "idx"),
        ("pictures", "a.png", "folder"),
    ],
)
def test_the_kind_is_told_by_names(
    path: str, inside: str | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if inside is None:
        Path(path).touch()
    else:
        Path(path).mkdir()
        (Path(path) / inside).touch()
    assert source_kind(Path(path)) == kind


def test_another_name_asks_for_the_kind(tmp_path: Path) -> None:
    (tmp_path / "set.bin").touch()
    with pytest.raises(UsageError, match="Give --kind, one of hdf5, cifar10"):
        source_kind(tmp_path / "set.bin")

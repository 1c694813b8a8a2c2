"""What lies at a path, as far as names tell."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clicooper_hpc.data.importers.image_folder import read_image_header
from clicooper_hpc.data.importers.import_dataset import import_samples
from clicooper_hpc.data.importers.npz import read_npz_split
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.inference.sample_source import SampleSource, open_sample_source
from clicooper_hpc.inference.source_check import source_kind
from clicooper_hpc.owner.classifier import Classifier


def opened(source: str | Path, size: int | None = None, **options: str) -> SampleSource:
    """Samples for a model of grey images of 8x8 pixels."""
    model = Classifier.__new__(Classifier)
    torch.nn.Module.__init__(model)
    model.input_shape, model.class_names = (1, 8, 8), ("0", "1")
    given = {"kind": None, "split": "test", **options}
    return open_sample_source(source, model, size=size, **given)  # type: ignore[arg-type]


class Sink:
    """Counts rows."""

    highest_label = 0

    def __init__(self) -> None:
        self.rows: list[NDArray[np.float32]] = []

    def append_samples(self, split: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        self.rows += list(x)


@pytest.mark.parametrize(
    ("path", "inside", "kind"),
    [
        ("set.h5", None, "hdf5"),
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


def test_digits_as_typed_are_the_embedded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened("digits").rows == 360
    for missing in ("./digits", "digits/", Path("digits")):
        with pytest.raises(DataError, match="digits: no such file or folder"):
            opened(missing)
    Path("digits").mkdir()
    Image.new("L", (8, 8)).save("digits/one.png")
    for folder in ("./digits", "digits/", tmp_path / "digits", Path("digits")):
        assert opened(folder).files == ["one.png"]
    with pytest.raises(UsageError, match=r"Give \./digits for that one"):
        opened("digits")
    assert opened("digits", kind="hdf5").rows == 360
    with pytest.raises(DataError, match=r"\./digits: is not a file"):
        opened("./digits", kind="hdf5")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], r"member class_names\.npy: has 1 class, needs 2"),
        (["a", "b"], r"member y\.npy, row 1: label 2 is outside 0\.\.1"),
        (["a", "b", "a"], r"class names are empty or repeat: 'a'"),
        (["a", "b", "c\x1b"], "has control characters"),
        (["a", "b", "c" * 1001], r"c'\.\.\. has 1,001 characters, at most 1,000 are allowed"),
    ],
)
def test_names_of_an_archive_are_checked_before_a_row_is_taken(
    tmp_path: Path, names: list[str], words: str
) -> None:
    x = np.zeros((2, 8, 8), np.float32)
    np.savez(tmp_path / "new.npz", x=x, y=np.array([0, 2]), class_names=np.array(names))
    sink = Sink()
    with pytest.raises(DataError, match=words):
        read_npz_split(tmp_path / "new.npz", "test", sink)
    assert not sink.rows


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("new.npz", "new.h5", "one.png", "cifar-10-binary.tar.gz"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}: is no regular file or folder"):
            opened(tmp_path / name)
    sink = Sink()
    with pytest.raises(DataError, match=r"new\.npz: is no regular file"):
        read_npz_split(tmp_path / "new.npz", "test", sink)
    for inside in ("class", "other"):
        (tmp_path / "tree" / inside).mkdir(parents=True)
        for name in "abc":
            os.mkfifo(tmp_path / "tree" / inside / f"{name}.png")
    for source, kind in (("cifar-10-binary.tar.gz", "cifar10"), ("tree", "folder")):
        with pytest.raises(DataError, match="is no regular file"):
            import_samples(kind, tmp_path / source, sink)
    with pytest.raises(DataError, match="is no regular file"):
        read_image_header(tmp_path / "one.png")


def test_splits_of_an_archive_win_and_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    whole = np.full((3, 8, 8), 3, np.float32)
    np.savez(tmp_path / "both.npz", x=whole, x_test=whole[:1] - 1, x_train=whole[:2] - 2)
    np.savez(tmp_path / "one.npz", x=whole)
    for name, split, rows, value in (
        ("both", "test", 1, 2),
        ("both", "train", 2, 1),
        ("one", "test", 3, 3),
    ):
        sink = Sink()
        read_npz_split(tmp_path / f"{name}.npz", split, sink)
        assert [float(row.max()) for row in sink.rows] == [value] * rows
    with pytest.raises(DataError, match=r"one\.npz: has no split 'foo'"):
        read_npz_split(tmp_path / "one.npz", "foo", Sink())
    with pytest.raises(DataError, match=r"has no member x_foo\.npy"):
        read_npz_split(tmp_path / "both.npz", "foo", Sink())
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    assert opened(tmp_path / "one.png").rows == 1
    with pytest.raises(DataError, match=r"one\.png: has no split 'foo'"):
        opened(tmp_path / "one.png", split="foo")


def test_a_size_that_cannot_be_is_called_too_small(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(UsageError, match="--size: 0 is too small"):
        opened(tmp_path / "one.png", size=0)
    with pytest.raises(UsageError, match="size 8 does not apply to hdf5"):
        opened("digits", kind="hdf5", size=8)

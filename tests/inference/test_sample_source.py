"""What lies at a path, as far as names tell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.inference.sample_source import SampleSource, open_sample_source, source_kind
from clicooper_hpc.owner.classifier import Classifier


def opened(source: str | Path, **options: str) -> SampleSource:
    """Samples for a model of grey images of 8x8 pixels."""
    model = Classifier.__new__(Classifier)
    torch.nn.Module.__init__(model)
    model.input_shape, model.class_names = (1, 8, 8), ("0", "1")
    given = {"kind": None, "split": "test", **options}
    return open_sample_source(source, model, size=None, **given)  # type: ignore[arg-type]


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

"""IDX files of the MNIST family: round trips and every damage."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from data_builders import idx_bytes, idx_files, import_fails, packed, write_folder

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.import_dataset import import_dataset

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def _fingerprints(source: Path, target: Path) -> list[str]:
    import_dataset("idx", source, target, overwrite=True)
    with open_dataset(target) as data:
        return [str(data.split(name).fingerprint()) for name in ("train", "test")]


@pytest.mark.parametrize("gz", [False, True])
def test_round_trip(tmp_path: Path, gz: bool) -> None:
    files = idx_files()
    source = write_folder(tmp_path / "mnist", packed(files) if gz else files)
    summary = import_dataset("idx", source, tmp_path / "out.h5")
    assert summary.rows == {"train": 40, "test": 10}
    with open_dataset(tmp_path / "out.h5") as data:
        assert data.class_names == tuple("0123456789")
        test = data.split("test")
        assert test.row_shape == (7, 8, 1)
        pixels = np.frombuffer(files["t10k-images-idx3-ubyte"][16:], np.uint8)
        rows = np.rint(test.read(np.arange(10)) * 255)
        assert np.array_equal(rows.ravel(), pixels)
        assert test.labels().tolist() == list(range(10))


def test_all_usual_names_give_the_same_data(tmp_path: Path) -> None:
    files = idx_files()
    emnist = {f"emnist-balanced-{k.replace('t10k', 'test')}": v for k, v in files.items()}
    dotted = {k.replace("-idx", ".idx"): v for k, v in files.items()}
    both = packed(idx_files(20)) | files  # the unpacked files win
    variants = {"plain": files, "gz": packed(files), "emnist": packed(emnist)}
    variants |= {"dotted": dotted, "both": both, "readme": files | {"README": b"x"}}
    prints = {
        name: _fingerprints(write_folder(tmp_path / name, content), tmp_path / "out.h5")
        for name, content in variants.items()
    }
    assert len({tuple(value) for value in prints.values()}) == 1


@pytest.mark.parametrize("missing", sorted(idx_files()))
def test_missing_file(tmp_path: Path, missing: str) -> None:
    files = idx_files()
    del files[missing]
    import_fails("idx", write_folder(tmp_path / "m", files), "/m: has no file", missing)


def test_not_a_folder_and_several_sets(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    import_fails("idx", tmp_path / "file", "file: is not a folder")
    files = {
        f"{p}-{k}": v for p in ("emnist-letters", "emnist-mnist") for k, v in idx_files().items()
    }
    import_fails("idx", write_folder(tmp_path / "m", files), "emnist-letters-, emnist-mnist-")


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        (IMAGES, b"\0\0\x08\x03", b"\0\0\x08\x01", ("byte 0", "00 00 08 01")),
        (IMAGES, b"\0\0\x08\x03", b"\0\0\x0d\x03", ("byte 0", "00 00 0d 03")),
        (LABELS, b"\0\0\x08\x01", b"\x80\x04\x95\0", ("byte 0", "80 04 95 00")),
        (LABELS, b"\0\0\0\x28", b"\0\0\0\x27", ("byte 4", "40 images", "39 labels")),
        (IMAGES, b"\0\0\0\x28", b"\0\0\0\x29", ("byte 4", "41 images")),
        (IMAGES, b"\0\0\0\x28", b"\0\0\0\0", ("byte 4", "(0, 7, 8)")),
        (IMAGES, b"\0\0\0\x07", b"\xff\0\0\x07", ("byte 4", "4278190087")),
        (IMAGES, b"\0\0\0\x07", b"\0\0\0\x08", ("byte 2256", "320 bytes early")),
        (IMAGES, b"\0\0\0\x07", b"\0\0\0\x06", ("byte 1936", "goes on")),
    ],
)
def test_wrong_header(
    tmp_path: Path, gz: bool, name: str, old: bytes, new: bytes, parts: tuple[str, ...]
) -> None:
    files = idx_files()
    assert old in files[name][:16]
    files[name] = files[name].replace(old, new, 1)
    source = write_folder(tmp_path / "m", packed(files) if gz else files)
    import_fails("idx", source, name, *parts)


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_cut_file(tmp_path: Path, name: str) -> None:
    files = idx_files()
    files[name] = files[name][:-3]
    import_fails("idx", write_folder(tmp_path / "m", files), name, "byte", "3 bytes early")


@pytest.mark.parametrize("keep", [1, 9, 300, -4])
def test_cut_gzip(tmp_path: Path, keep: int) -> None:
    files = packed(idx_files())
    name = f"{IMAGES}.gz"
    files[name] = files[name][:keep]
    import_fails("idx", write_folder(tmp_path / "m", files), name, "byte")


def test_damaged_gzip_found_by_its_checksum(tmp_path: Path) -> None:
    files = packed(idx_files())
    name = f"{IMAGES}.gz"
    damaged = bytearray(files[name])
    damaged[-6] ^= 1  # in the CRC-32
    files[name] = bytes(damaged)
    import_fails("idx", write_folder(tmp_path / "m", files), name, "byte 2256", "CRC")


def test_too_long_and_empty(tmp_path: Path) -> None:
    files = idx_files()
    files[LABELS] += b"\0"
    import_fails("idx", write_folder(tmp_path / "long", files), LABELS, "byte 48", "goes on")
    files[LABELS] = b""
    import_fails("idx", write_folder(tmp_path / "none", files), LABELS, "byte 0", "early")


def test_splits_of_different_size_and_one_class(tmp_path: Path) -> None:
    files = idx_files()
    files["t10k-images-idx3-ubyte"] = idx_bytes(np.zeros((10, 8, 8), np.uint8))
    import_fails("idx", write_folder(tmp_path / "m", files), "differ", "(8, 8, 1)")
    files = idx_files()
    for stem, rows in (("train", 40), ("t10k", 10)):
        files[f"{stem}-labels-idx1-ubyte"] = idx_bytes(np.zeros(rows, np.uint8))
    import_fails("idx", write_folder(tmp_path / "one", files), "1 class,")


def test_several_gzip_members_in_one_file(tmp_path: Path) -> None:
    files = idx_files()
    data = files.pop(IMAGES)
    files[f"{IMAGES}.gz"] = gzip.compress(data[:100]) + gzip.compress(data[100:])
    prints = _fingerprints(write_folder(tmp_path / "m", files), tmp_path / "a.h5")
    assert prints == _fingerprints(write_folder(tmp_path / "n", idx_files()), tmp_path / "b.h5")

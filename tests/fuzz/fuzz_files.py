"""Importers, each from a small source in its published layout, and the reader of data sets."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from fuzz_target import FuzzTarget
from PIL import Image

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.data.importers.cifar import CIFAR10, CIFAR100, CifarLayout, import_cifar
from clicooper_hpc.data.importers.idx import import_idx
from clicooper_hpc.data.importers.image_folder import import_image_folder
from clicooper_hpc.data.importers.npz import import_npz, read_npz_split

_ROWS = 2
_IMAGES = ("png", "jpg", "ppm", "bmp", "tif", "webp")


@functools.cache
def _temporary() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fuzz-")


def _folder() -> Path:
    return Path(_temporary().name)


def _import(read: Callable[[DatasetWriter], tuple[str, ...]], *, rows: int) -> None:
    """Import; what is taken must be a data set that can be opened, of so many rows at most."""
    target = _folder() / "out.h5"
    with DatasetWriter(target, source="source", source_kind="fuzz", overwrite=True) as writer:
        writer.finish(read(writer))
    with open_dataset(target) as data:
        assert sum(len(split) for split in data.splits.values()) <= rows


def _write_over(
    folder: Path, names: Sequence[str], content: bytes, good: Mapping[str, bytes]
) -> None:
    """The first byte says which file is replaced by the rest; the others are good."""
    folder.mkdir(exist_ok=True)
    chosen = names[content[0] % len(names)] if content else names[0]
    for name, data in good.items():
        (folder / name).write_bytes(content[1:] if name == chosen else data)


def _replacing(names: Sequence[str], good: Mapping[str, bytes]) -> list[bytes]:
    return [bytes([at]) + good[name] for at, name in enumerate(names)]


def _small(layout: CifarLayout) -> CifarLayout:
    files = tuple((split, name, _ROWS) for split, name, _ in layout.files)
    return replace(layout, files=files)


def _cifar_tar(layout: CifarLayout) -> bytes:
    content = {
        name: (bytes(len(layout.label_classes)) + bytes(range(256)) * 12) * rows
        for _, name, rows in layout.files
    }
    content[layout.names_file] = "\n".join(map(str, range(layout.label_classes[-1]))).encode()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(f"batches/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def _cifar_archives() -> list[bytes]:
    tars = [_cifar_tar(_small(layout)) for layout in (CIFAR10, CIFAR100)]
    return [gzip.compress(one, mtime=0) for one in tars]


def _read_cifar_archive(content: bytes) -> None:
    path = _folder() / "cifar.tar.gz"
    path.write_bytes(content)
    _import(lambda writer: import_cifar(_small(CIFAR10), path, writer), rows=6 * _ROWS)


def _read_cifar_tar(content: bytes) -> None:
    path = _folder() / "cifar100.tar.gz"
    path.write_bytes(gzip.compress(content, 1, mtime=0))
    _import(lambda writer: import_cifar(_small(CIFAR100), path, writer), rows=2 * _ROWS)


def _idx(values: np.ndarray) -> bytes:
    return (
        bytes((0, 0, 8, values.ndim))
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.tobytes()
    )


@functools.cache
def _idx_files() -> dict[str, bytes]:
    images, labels = np.arange(40, dtype=np.uint8).reshape(2, 4, 5), np.arange(2, dtype=np.uint8)
    return {
        "train-images-idx3-ubyte": _idx(images),
        "train-labels-idx1-ubyte": _idx(labels),
        "t10k-images-idx3-ubyte.gz": gzip.compress(_idx(images), mtime=0),
        "t10k-labels-idx1-ubyte.gz": gzip.compress(_idx(labels), mtime=0),
    }


def _read_idx(content: bytes) -> None:
    folder = _folder() / "idx"
    _write_over(folder, list(_idx_files()), content, _idx_files())
    _import(lambda writer: import_idx(folder, writer), rows=100_000)


@functools.cache
def _npy_members() -> dict[str, bytes]:
    images = np.arange(48, dtype=np.uint8).reshape(2, 4, 6)
    arrays = {
        "x_train": images,
        "y_train": np.array([0, 1]),
        "x_test": images,
        "y_test": np.array([[1], [0]], dtype=np.uint8),
        "class_names": np.array(["a", "b"]),
    }
    members = {}
    for name, values in arrays.items():
        made = io.BytesIO()
        np.save(made, values)
        members[f"{name}.npy"] = made.getvalue()
    return members


def _zip(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return made.getvalue()


def _npz_files() -> list[bytes]:
    members = _npy_members()
    return [_zip(members), _zip(members, zipfile.ZIP_DEFLATED), _zip(members, zipfile.ZIP_LZMA)]


def _read_npz(content: bytes) -> None:
    path = _folder() / "set.npz"
    path.write_bytes(content)
    _import(lambda writer: import_npz(path, writer), rows=100_000)


def _npz_splits() -> list[bytes]:
    members = _npy_members()
    x, y, names = members["x_test.npy"], members["y_test.npy"], members["class_names.npy"]
    return [
        _zip({"x_test.npy": x}),
        _zip({"x.npy": x, "y.npy": y, "class_names.npy": names}, zipfile.ZIP_DEFLATED),
    ]


class _Counted:
    """Takes samples and keeps their number alone."""

    rows = highest_label = 0

    def append_samples(self, split: str, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
        assert len(x) == len(y)
        assert split == "test"
        self.rows += len(x)


def _read_npz_split(content: bytes) -> None:
    path, sink = _folder() / "set.npz", _Counted()
    path.write_bytes(content)
    read_npz_split(path, "test", sink)
    assert sink.rows <= 100_000


def _read_npy(content: bytes) -> None:
    names = list(_npy_members())
    chosen = names[content[0] % len(names)] if content else names[0]
    _read_npz(_zip({**_npy_members(), chosen: content[1:]}))


@functools.cache
def _image_files() -> dict[str, bytes]:
    picture = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    files = {}
    for ending in _IMAGES:
        made = io.BytesIO()
        picture.save(made, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
        files[f"0.{ending}"] = made.getvalue()
    return files


def _read_image(content: bytes) -> None:
    """One image of a folder replaced; the rest of the folder is small and good."""
    source = _folder() / "images"
    good = _image_files()
    for split in ("train", "test"):
        for label in ("a", "b"):
            (source / split / label).mkdir(parents=True, exist_ok=True)
            (source / split / label / "1.bmp").write_bytes(good["0.bmp"])
    names = list(good)
    chosen = names[content[0] % len(names)] if content else names[0]
    for name in names:
        (source / "train" / "a" / name).unlink(missing_ok=True)
    (source / "train" / "a" / chosen).write_bytes(content[1:])
    _import(lambda writer: import_image_folder(source, writer), rows=10)


def _data_sets() -> list[bytes]:
    made = []
    for options in ({}, {"chunks": (1, 6), "compression": "gzip", "fletcher32": True}):
        path = _folder() / "seed.h5"
        with h5py.File(path, "w") as file:
            file.attrs["class_names"] = np.array(["a", "b"], dtype="S1")
            file.attrs["format"] = np.bytes_("clicooper-data")
            file.attrs["format_version"] = 1
            for split in ("train", "test"):
                file.create_dataset(f"{split}/x", data=np.zeros((4, 6), np.float32), **options)
                file[f"{split}/y"] = np.arange(4) % 2
        made.append(path.read_bytes())
    return made


def _read_data_set(content: bytes) -> None:
    path = _folder() / "set.h5"
    path.write_bytes(content)
    with open_dataset(path) as data:
        for split in data.splits.values():
            # All rows of a few kilobytes: a header that claims more is refused before this.
            split.read(np.arange(min(len(split), 64)))
            split.labels()


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget("cifar-archive", _cifar_archives, _read_cifar_archive, files=True),
    FuzzTarget("cifar-tar", lambda: [_cifar_tar(_small(CIFAR100))], _read_cifar_tar, files=True),
    FuzzTarget(
        "idx-files",
        lambda: _replacing(list(_idx_files()), _idx_files()),
        _read_idx,
        files=True,
    ),
    FuzzTarget("npz-archive", _npz_files, _read_npz, files=True),
    FuzzTarget("npz-split", _npz_splits, _read_npz_split, files=True),
    FuzzTarget(
        "npz-member",
        lambda: _replacing(list(_npy_members()), _npy_members()),
        _read_npy,
        files=True,
    ),
    FuzzTarget(
        "image-folder",
        lambda: _replacing(list(_image_files()), _image_files()),
        _read_image,
        files=True,
        foreign=True,
    ),
    FuzzTarget("data-set", _data_sets, _read_data_set, files=True, foreign=True),
)

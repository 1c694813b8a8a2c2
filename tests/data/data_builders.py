"""Small sources in the published layouts, and the one way an import may fail."""

from __future__ import annotations

import dataclasses
import gzip
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.data.importers.cifar import CifarLayout
from clicooper_hpc.data.importers.import_dataset import import_dataset
from clicooper_hpc.errors import DataError

ROWS = 30


def import_fails(kind: str, source: Path, *parts: str, **options: Any) -> str:
    """Import must raise one DataError whose line holds all parts, and leave no file."""
    out = source.parent / f"out-{kind}"
    out.mkdir(exist_ok=True)
    with pytest.raises(DataError) as caught:
        import_dataset(kind, source, out / "set.h5", **options)
    line = caught.value.line()
    assert "\n" not in line
    assert line.startswith(str(source))
    for part in parts:
        assert part in line, line
    assert list(out.iterdir()) == []
    return line


def small(layout: CifarLayout) -> CifarLayout:
    """Return the published layout with ROWS rows a file."""
    files = tuple((split, name, ROWS) for split, name, _ in layout.files)
    return dataclasses.replace(layout, files=files)


def cifar_files(layout: CifarLayout, seed: int = 0) -> dict[str, bytes]:
    """Return the content of every file of a small archive, named as published."""
    rng = np.random.default_rng(seed)
    content: dict[str, bytes] = {}
    for _, name, rows in layout.files:
        columns = [rng.integers(0, k, (rows, 1), dtype=np.uint8) for k in layout.label_classes]
        pixels = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        content[name] = np.concatenate([*columns, pixels], axis=1).tobytes()
    names = [f"class {i}" for i in range(layout.label_classes[-1])]
    content[layout.names_file] = ("\n".join(names) + "\n\n").encode()
    content["readme.html"] = b"<html/>"
    return content


def cifar_rows(layout: CifarLayout, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Decode one file in the slowest, plainest way: (n, 32, 32, 3) and labels."""
    head = len(layout.label_classes)
    images, labels = [], []
    for at in range(0, len(content), head + 3072):
        labels.append(content[at + head - 1])
        entry = content[at + head : at + head + 3072]
        image = np.zeros((32, 32, 3), dtype=np.uint8)
        for channel in range(3):
            plane = entry[channel * 1024 : (channel + 1) * 1024]
            image[:, :, channel] = np.frombuffer(plane, np.uint8).reshape(32, 32)
        images.append(image)
    return np.stack(images), np.asarray(labels, dtype=np.int64)


def write_tar(path: Path, content: dict[str, bytes], folder: str = "batches-bin") -> Path:
    """Write a .tar.gz whose members lie in one folder, in reverse order of ``content``."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name in reversed(content):
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content[name])
            archive.addfile(info, io.BytesIO(content[name]))
    return path


def write_folder(path: Path, content: dict[str, bytes]) -> Path:
    """Write the files of ``content`` into a new folder."""
    path.mkdir(parents=True)
    for name, data in content.items():
        (path / name).write_bytes(data)
    return path


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """Return an IDX file of unsigned bytes."""
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.tobytes()


def idx_files(train: int = 40, test: int = 10, side: int = 7) -> dict[str, bytes]:
    """Return the four files of a small set with the standard names, unpacked."""
    rng = np.random.default_rng(1)
    files: dict[str, bytes] = {}
    for stem, rows in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (rows, side, side + 1), dtype=np.uint8)
        files[f"{stem}-images-idx3-ubyte"] = idx_bytes(images)
        files[f"{stem}-labels-idx1-ubyte"] = idx_bytes(np.arange(rows, dtype=np.uint8) % 10)
    return files


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the same files gzip-packed, with .gz names."""
    return {f"{name}.gz": gzip.compress(data) for name, data in files.items()}


def write_h5(
    path: Path,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    names: Any = ("a", "b", "c"),
    splits: tuple[str, ...] = ("train", "test"),
    **storage: Any,
) -> Path:
    """Write a native file the way a user with bare h5py would; every split is the same."""
    with h5py.File(path, "w") as file:
        if names is not None:
            file.attrs["class_names"] = list(names)
        for split in splits:
            file.create_dataset(f"{split}/x", data=x, **storage)
            file.create_dataset(f"{split}/y", data=y)
    return path

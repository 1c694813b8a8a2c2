"""The writer: a complete file under its name, or the folder as it was."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from clicooper_hpc.data import atomic_h5_file
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.errors import DataError

NAMES = ("cat", "dog", "Straße")
RNG = np.random.default_rng(5)
X = RNG.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
Y = np.arange(50, dtype=np.int64) % 3
_ZEROS = np.zeros(64, dtype=np.int64)


def _write(path: Path, **options: Any) -> None:
    with DatasetWriter(path, source="src", source_kind="npz", **options) as writer:
        writer.append_samples("train", X[:30], Y[:30])
        writer.append_samples("test", X[45:], Y[45:])
        writer.append_samples("train", X[30:45], Y[30:45])
        writer.finish(NAMES)


def test_round_trip(tmp_path: Path) -> None:
    _write(tmp_path / "set.h5")
    assert [p.name for p in tmp_path.iterdir()] == ["set.h5"]
    with open_dataset(tmp_path / "set.h5") as data:
        assert data.class_names == NAMES
        train = data.split("train")
        assert np.array_equal(train.labels(), Y[:45])
        back = np.rint(train.read(np.arange(45)) * 255).astype(np.uint8)
        assert np.array_equal(back.transpose(0, 2, 3, 1), X[:45])


def test_the_file_describes_itself(tmp_path: Path) -> None:
    _write(tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5") as file:
        assert file.attrs["format"] == b"clicooper-data"
        assert file.attrs["format_version"] == 1
        assert file.attrs["source_kind"] == b"npz"
        assert file.attrs["created"].endswith(b"+00:00")
        names = file.attrs.get_id("class_names")
        assert h5py.check_string_dtype(names.dtype) == ("utf-8", 7)
        for split in ("train", "test"):
            for name in ("x", "y"):
                dataset = file[split][name]
                assert {"units", "long_name"} <= set(dataset.attrs)
                assert dataset.fletcher32
                assert dataset.shuffle
                assert (dataset.compression, dataset.compression_opts) == ("gzip", 1)
                assert dataset.chunks[1:] == dataset.shape[1:]


def test_many_long_class_names_fit(tmp_path: Path) -> None:
    names = [f"{i:05d} " + "x" * 60 for i in range(3000)]  # 200 kB: past HDF5's 64 kB header limit
    with DatasetWriter(tmp_path / "set.h5", source="src", source_kind="npz") as writer:
        writer.append_samples("train", X, Y)
        writer.append_samples("test", X, Y + 2997)
        writer.finish(names)
    with open_dataset(tmp_path / "set.h5") as data:
        assert data.class_names == tuple(names)


def test_refuses_to_overwrite_and_overwrites_when_told(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"
    path.write_bytes(b"precious")
    with pytest.raises(DataError, match=r"set\.h5: exists already"):
        _write(path)
    assert path.read_bytes() == b"precious"
    _write(path, overwrite=True)
    open_dataset(path).close()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "set.h5"

    def write() -> None:
        with DatasetWriter(path, source="src", source_kind="npz") as writer:
            writer.append_samples("train", X, Y)
            writer.append_samples("test", X, Y)
            path.write_bytes(b"precious")
            writer.finish(NAMES)

    with pytest.raises(DataError, match="exists already"):
        write()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("set.h5", b"precious")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), DataError("x")])
def test_an_error_inside_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "set.h5"
    path.write_bytes(b"precious")

    def write() -> None:
        with DatasetWriter(path, source="src", source_kind="npz", overwrite=True) as writer:
            writer.append_samples("train", X, Y)
            assert len(list(tmp_path.iterdir())) == 2
            raise error

    with pytest.raises(type(error)):
        write()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("set.h5", b"precious")]


def test_leaving_without_finish_is_a_mistake(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="without finish"),
        DatasetWriter(tmp_path / "set.h5", source="src", source_kind="npz") as writer,
    ):
        writer.append_samples("train", X, Y)
    assert list(tmp_path.iterdir()) == []


def test_target_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        _write(tmp_path)
    with pytest.raises(DataError, match=r"none/set\.h5: cannot be written \(No such file"):
        _write(tmp_path / "none" / "set.h5")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    def write(parts: tuple[tuple[str, Any, Any], ...], names: tuple[str, ...]) -> None:
        with DatasetWriter(tmp_path / "set.h5", source="src", source_kind="npz") as writer:
            for part in parts:
                writer.append_samples(*part)
            writer.finish(names)

    def fails(match: str, *parts: tuple[str, Any, Any], names: tuple[str, ...] = NAMES) -> None:
        with pytest.raises(DataError, match=match):
            write(parts, names)
        assert list(tmp_path.iterdir()) == []

    fails("src: there are no test samples", ("train", X, Y))
    fails("src: there are no train samples", ("test", X, Y))
    fails("src, train, row 50: rows are", ("train", X, Y), ("train", X[:, 1:], Y))
    fails("src: splits differ", ("train", X, Y), ("test", X[:, 1:], Y))
    fails("src, train: .*float64", ("train", X.astype(float), Y))
    fails(
        "src, train, row 54: label -1",
        ("train", X, Y),
        ("train", X[:9], np.r_[Y[:4], -np.ones(5, int)]),
    )
    fails(
        "src, class names: label 2 has no name", ("train", X, Y), ("test", X, Y), names=("a", "b")
    )
    long = "b" * 1001
    fails(
        "src, class names: .*b'... has 1,001 characters, at most 1,000",
        ("train", X, Y),
        ("test", X, Y),
        names=("a", long, "c"),
    )
    fails("src, class names: .*repeat", ("train", X, Y), ("test", X, Y), names=("a", "b", "a"))


@pytest.mark.parametrize("room", [0, 700, 20_000, 100_000])
def test_a_full_disk_is_one_error_naming_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Whether it shows while writing or only when closing, the file goes and the process lives."""

    class FullDisk(io.FileIO):
        def write(self, content: Any, /) -> int:
            fits = room - self.tell()
            if fits <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(memoryview(content)[:fits])

    limited = type("Limited", (atomic_h5_file.BackingFile, FullDisk), {})
    monkeypatch.setattr("clicooper_hpc.data.atomic_h5_file.BackingFile", limited)
    rng = np.random.default_rng(0)

    def write() -> None:
        with DatasetWriter(tmp_path / "set.h5", source="src", source_kind="npz") as writer:
            for _ in range(20):
                writer.append_samples(
                    "train", rng.integers(0, 256, (8, 1000), dtype=np.uint8), Y[:8]
                )
            writer.append_samples("test", np.zeros((8, 1000), np.uint8), Y[:8])
            writer.finish(NAMES)

    with pytest.raises(DataError, match=r"set\.h5: cannot be written \(No space left.* Make room"):
        write()
    assert list(tmp_path.iterdir()) == []
    h5py.File(tmp_path / "next.h5", "w").close()  # the library is still usable


@pytest.mark.parametrize("at", [1, 2, 10, 30, 100])
def test_ctrl_c_in_the_middle_of_a_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, at: int
) -> None:
    class Interrupted(atomic_h5_file.BackingFile):
        writes = 0

        def write(self, content: Any, /) -> int:
            Interrupted.writes += 1
            if Interrupted.writes == at:
                os.kill(os.getpid(), signal.SIGINT)
            return super().write(content)

    monkeypatch.setattr("clicooper_hpc.data.atomic_h5_file.BackingFile", Interrupted)
    # A shell that starts the tests in the background makes them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    rng = np.random.default_rng(0)

    def write() -> None:
        with DatasetWriter(tmp_path / "set.h5", source="src", source_kind="npz") as writer:
            while True:
                writer.append_samples(
                    "train", rng.integers(0, 256, (64, 3072), dtype=np.uint8), _ZEROS
                )

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
    h5py.File(tmp_path / "next.h5", "w").close()  # the library is still usable


def test_a_file_size_limit_of_the_system_does_not_crash_the_process(tmp_path: Path) -> None:
    """HDF5 itself dies with a segmentation fault here when it is told that a write failed."""
    script = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.errors import DataError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
rng = np.random.default_rng(0)
try:
    with DatasetWriter(Path(sys.argv[1]), source="src", source_kind="npz") as writer:
        for _ in range(50):
            x = rng.integers(0, 256, (64, 3072), dtype=np.uint8)
            writer.append_samples("train", x, np.zeros(64, np.int64))
except DataError as error:
    print(error.line())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "set.h5")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "set.h5: cannot be written (File too large). Make room" in done.stdout
    assert list(tmp_path.iterdir()) == []

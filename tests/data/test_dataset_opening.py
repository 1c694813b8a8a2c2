"""Everything wrong with a file is found when it is opened, and named with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_builders import write_h5

from clicooper_hpc.data.class_labels import check_class_names
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.errors import DataError

Y = np.arange(20, dtype=np.int64) % 3
X = np.zeros((20, 4, 4, 1), np.uint8)


def _refused(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    line = caught.value.line()
    assert "\n" not in line
    for part in (str(path), *parts):
        assert part in line, line


def test_missing_split_names_file_and_what_is_there(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "a.h5", X, Y)
    with open_dataset(path) as data:
        assert sorted(data.splits) == ["test", "train"]
        with pytest.raises(DataError, match=r"a\.h5: has no split 'validation', only train, test"):
            data.split("validation")


def test_names_and_source(tmp_path: Path) -> None:
    with open_dataset(write_h5(tmp_path / "my.set.h5", X, Y, splits=("train",))) as data:
        assert data.name == "my.set"
        assert data.class_names == ("a", "b", "c")


def test_fixed_length_names_are_read(tmp_path: Path) -> None:
    names = np.asarray(["ä".encode(), b"bee", b"c"])
    with open_dataset(write_h5(tmp_path / "n.h5", X, Y, names=names)) as data:
        assert data.class_names == ("ä", "bee", "c")


def test_no_such_file(tmp_path: Path) -> None:
    _refused(tmp_path / "none.h5", "no such file")
    _refused(tmp_path, "is not a file")


def test_digits_are_a_word_and_a_path_of_that_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_h5(Path("digits"), X, Y)
    with open_dataset("digits") as embedded, open_dataset(Path("digits")) as file:
        assert embedded.num_classes == 10
        assert file.num_classes == 3
    with open_dataset("./digits") as file:
        assert file.num_classes == 3


def test_not_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "text.h5"
    path.write_text("sepal length, sepal width\n" * 100)
    _refused(path, "cannot be opened", "signature", "import it again")


def test_cut_short(tmp_path: Path) -> None:
    path = write_h5(tmp_path / "cut.h5", np.random.default_rng(0).random((500, 9), np.float32), Y)
    path.write_bytes(path.read_bytes()[:-2000])
    _refused(path, "truncated")


def test_no_split_at_all(tmp_path: Path) -> None:
    _refused(write_h5(tmp_path / "s.h5", X, Y, splits=("Train",)), "none of the splits")


@pytest.mark.parametrize(
    ("name", "x", "y", "parts"),
    [
        ("lengths", X, Y[:-1], (":/train", "x has 20 rows and y has 19")),
        ("float64", X.astype(float), Y, (":/train/x", "float64", "float32")),
        ("grey", X[..., 0], Y, (":/train/x", "(20, 4, 4)", "(n, H, W, C)")),
        ("scalar", np.uint8(0), Y, (":/train/x", "shape ()")),
        ("empty", X[:0], Y[:0], (":/train/x", "empty")),
        ("no-pixels", X[:, :0], Y, (":/train/x", "empty")),
        ("float-y", X, Y.astype(float), (":/train/y", "int64")),
        ("matrix-y", X, Y[:, None], (":/train/y", "(20, 1)")),
        ("too-high", X, np.where(np.arange(20) == 13, 3, Y), (":/train/y, row 13", "label 3")),
        ("negative", X, np.where(np.arange(20) == 7, -1, Y), (":/train/y, row 7", "label -1")),
    ],
)
def test_shape_dtype_and_labels(
    tmp_path: Path, name: str, x: np.ndarray, y: np.ndarray, parts: tuple[str, ...]
) -> None:
    _refused(write_h5(tmp_path / f"{name}.h5", x, y), *parts)


def test_a_bad_label_far_into_a_long_split_is_found(tmp_path: Path) -> None:
    y = np.zeros(1_500_000, np.int64)
    y[1_234_567] = 9
    path = tmp_path / "long.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
        file.create_dataset("train/x", data=np.zeros((len(y), 1), np.uint8), chunks=(4096, 1))
        file.create_dataset("train/y", data=y, chunks=(4096,))
    _refused(path, ":/train/y, row 1234567", "label 9 is outside 0..1")


@pytest.mark.parametrize(
    ("names", "part"),
    [(None, "no root attribute class_names"), (["a"], "1 class,"), (["a", "b", "a"], "repeat")],
)
def test_class_names(tmp_path: Path, names: list[str] | None, part: str) -> None:
    _refused(write_h5(tmp_path / "n.h5", X, Y * 0, names=names), part)


def _drop_y(file: h5py.File) -> None:
    del file["test/y"]


def _other_format(file: h5py.File) -> None:
    file.attrs["format"] = "clicooper-run"


def _later_version(file: h5py.File) -> None:
    file.attrs["format_version"] = 2


def _dataset_for_group(file: h5py.File) -> None:
    del file["train"]
    file["train"] = np.zeros(3)


def _differing_rows(file: h5py.File) -> None:
    del file["test/x"]
    file["test/x"] = np.zeros((20, 4, 5, 1), np.uint8)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((20, 4, 4, 1), "u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (20, 4, 4, 1))
    del file["train/x"]
    file.create_virtual_dataset("train/x", layout)


def _external(file: h5py.File) -> None:
    del file["train/x"]
    file.create_dataset(
        "train/x", (20, 4, 4, 1), "u1", external=[("elsewhere.raw", 0, h5py.h5f.UNLIMITED)]
    )


def _soft_link(file: h5py.File) -> None:
    file.move("train", "other")
    file["train"] = h5py.SoftLink("/other")


def _outward_link(file: h5py.File) -> None:
    # To a file with everything that is wanted.
    write_h5(Path(file.filename).with_name("elsewhere.h5"), X, Y)
    del file["train/x"]
    file["train/x"] = h5py.ExternalLink("elsewhere.h5", "/train/x")


def _never_written(file: h5py.File) -> None:
    for name, shape, dtype in (("x", (10**15, 4, 4, 1), "u1"), ("y", (10**15,), "i8")):
        del file[f"train/{name}"]
        file.create_dataset(f"train/{name}", shape, dtype, chunks=(1000, *shape[1:]))


def _partly_written(file: h5py.File) -> None:
    del file["train/y"]
    labels = file.create_dataset("train/y", (20,), "i8", chunks=(5,))
    labels[:15] = 0


def _large_chunks(file: h5py.File) -> None:
    del file["train/x"]
    shape = (20, 4, 4, 1)
    chunks = (20_000_000, 4, 4, 1)
    file.create_dataset("train/x", shape, "u1", chunks=chunks, maxshape=(None, 4, 4, 1))


def _names_out_of_bounds(file: h5py.File) -> None:
    file.attrs["class_names"] = ["a", "b\x1b[2J"]


def test_many_class_names_twice_take_no_time() -> None:
    """Each name was counted in all of them: an hour for the most classes there may be."""
    names = tuple(f"name {number // 2}" for number in range(65_000))
    with pytest.raises(DataError, match="repeat: 'name 0', 'name 1', "):
        check_class_names(names, "here")


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (_soft_link, ("a link 'train'", "h5repack")),
        (_outward_link, (":/train", "a link 'x'", "h5repack")),
        (_never_written, (":/train/x", "never written", "Write all rows")),
        (_partly_written, (":/train/y", "never written")),
        (_large_chunks, (":/train/x", "chunks", "smaller chunks")),
        (_names_out_of_bounds, ("class_names", "control characters")),
        (_drop_y, (":/test", "no data set 'y'", "['x']")),
        (_other_format, ("'clicooper-run' file",)),
        (_later_version, ("version 2",)),
        (_dataset_for_group, (":/train", "not a group")),
        (_differing_rows, ("differ", "(4, 5, 1)")),
        (_virtual, (":/train/x", "in other files")),
        (_external, (":/train/x", "in other files")),
    ],
)
def test_structure(
    tmp_path: Path, damage: Callable[[h5py.File], None], parts: tuple[str, ...]
) -> None:
    path = write_h5(tmp_path / "s.h5", X, Y)
    with h5py.File(path, "r+") as file:
        damage(file)
    _refused(path, *parts)

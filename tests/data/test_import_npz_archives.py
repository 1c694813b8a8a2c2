"""NumPy archives: round trips, refusal of pickles, and every damage."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_builders import import_fails

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.importers.import_dataset import import_dataset

RNG = np.random.default_rng(2)


def _arrays(**changes: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "x_train": RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8),
        "y_test": np.arange(12) % 4,
    }
    return {key: value for key, value in (arrays | changes).items() if value is not None}


def _write(path: Path, compressed: bool = False, /, **changes: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **_arrays(**changes))
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_round_trip(tmp_path: Path, compressed: bool) -> None:
    arrays = _arrays()
    source = _write(tmp_path / "s.npz", compressed, **arrays)
    summary = import_dataset("npz", source, tmp_path / "out.h5")
    assert summary.rows == {"train": 40, "test": 12}
    with open_dataset(tmp_path / "out.h5") as data:
        assert data.class_names == ("0", "1", "2", "3")
        for split in ("train", "test"):
            got = data.split(split)
            rows = np.rint(got.read(np.arange(len(got))) * 255).transpose(0, 2, 3, 1)
            assert np.array_equal(rows, arrays[f"x_{split}"])
            assert np.array_equal(got.labels(), arrays[f"y_{split}"])


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i4", ">i8", "u8"])
@pytest.mark.parametrize("column", [False, True])
def test_labels_of_any_integer_type(tmp_path: Path, dtype: str, column: bool) -> None:
    y = (np.arange(40) % 4).astype(dtype)
    source = _write(tmp_path / "s.npz", y_train=y[:, None] if column else y)
    import_dataset("npz", source, tmp_path / "out.h5")
    with open_dataset(tmp_path / "out.h5") as data:
        assert np.array_equal(data.split("train").labels(), np.arange(40) % 4)


def test_grey_images_get_a_channel_and_names_are_taken(tmp_path: Path) -> None:
    names = np.asarray(["a", "bb", "ç", "d"])
    source = _write(
        tmp_path / "s.npz",
        x_train=np.zeros((40, 9, 7), np.uint8),
        x_test=np.zeros((12, 9, 7), np.uint8),
        class_names=names,
    )
    import_dataset("npz", source, tmp_path / "out.h5")
    with open_dataset(tmp_path / "out.h5") as data:
        assert data.split("train").row_shape == (9, 7, 1)
        assert data.class_names == tuple(names)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_vectors_become_float32(tmp_path: Path, dtype: str) -> None:
    x = RNG.normal(size=(40, 11)).astype(dtype)
    source = _write(tmp_path / "s.npz", x_train=x, x_test=x[:12])
    import_dataset("npz", source, tmp_path / "out.h5")
    with open_dataset(tmp_path / "out.h5") as data:
        assert np.array_equal(data.split("train").read(np.arange(40)), x.astype(np.float32))


class _Payload:
    """Would create a file if it were ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["x_train", "y_test", "class_names"])
def test_pickles_are_refused_and_never_run(tmp_path: Path, name: str) -> None:
    bait = np.empty(40, dtype=object)
    bait[:] = [_Payload(tmp_path / "owned")] * 40
    source = _write(tmp_path / "s.npz", **{name: bait})
    import_fails("npz", source, f"s.npz, member {name}.npy", "pickled")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"x_test": None}, ("s.npz: has no member x_test.npy", "y_test.npy")),
        ({"y_train": np.arange(39)}, ("member y_train.npy", "(39,)", "(40,)")),
        ({"y_train": np.eye(40)}, ("member y_train.npy", "float64", "(40, 40)")),
        ({"y_train": np.arange(40) - 3}, ("member y_train.npy, row 0", "label -3")),
        (
            {"y_test": np.full(12, 2**63, np.uint64)},
            ("member y_test.npy, row 0", "label 9223372036854775808"),
        ),
        ({"x_train": np.zeros((40, 6, 5, 3), np.int64)}, ("x_train.npy", "int64", "Save uint8")),
        ({"x_train": np.zeros((0, 6, 5, 3), np.uint8)}, ("x_train.npy", "(0, 6, 5, 3)")),
        ({"x_train": np.uint8(3)}, ("x_train.npy", "shape ()")),
        ({"x_train": np.zeros((40, 3, 6, 5), np.uint8)}, ("x_train.npy", "channels first")),
        ({"x_test": np.zeros((12, 6, 6, 3), np.uint8)}, ("differ", "(6, 6, 3)")),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(12, int)}, ("1 class,",)),
        ({"class_names": np.asarray(["a", "b"])}, ("label 3 has no name",)),
        ({"class_names": np.arange(4)}, ("member class_names.npy", "int64")),
        (
            {"x_train": np.asfortranarray(np.zeros((40, 6, 5, 3), np.uint8))},
            ("x_train.npy", "column by column"),
        ),
    ],
)
def test_contents_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    import_fails("npz", _write(tmp_path / "s.npz", **changes), *parts)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_no_finite_float32(tmp_path: Path, value: float) -> None:
    x = np.zeros((40, 6, 5, 3))
    x[33, 1, 2, 0] = value
    source = _write(tmp_path / "s.npz", x_train=x, x_test=x[:12])
    import_fails("npz", source, "member x_train.npy, row 33", "finite")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_cut_archive(tmp_path: Path, keep: float) -> None:
    source = _write(tmp_path / "s.npz")
    whole = source.read_bytes()
    source.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    import_fails("npz", source, "s.npz", "not a zip file")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_member(tmp_path: Path, compressed: bool) -> None:
    source = _write(tmp_path / "s.npz", compressed)
    content = bytearray(source.read_bytes())
    content[2000] ^= 0x10  # in x_train, the first member
    source.write_bytes(content)
    import_fails("npz", source, "s.npz, member x_train.npy, byte", "is damaged")


def test_member_shorter_or_longer_than_its_header_says(tmp_path: Path) -> None:
    good = _write(tmp_path / "good.npz")
    for name, change, part in (("short", -5, "5 bytes early"), ("long", 5, "goes on")):
        source = tmp_path / f"{name}.npz"
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(source, "w") as new:
            for member in old.namelist():
                data = old.read(member)
                if member == "x_test.npy":
                    data = data[:change] if change < 0 else data + bytes(change)
                new.writestr(member, data)
        import_fails("npz", source, "member x_test.npy, byte", part)


def test_a_member_that_is_not_an_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("x_train.npy", b"5.1,3.5,1.4")
        archive.writestr("y_train.npy", b"")
    import_fails("npz", tmp_path / "s.npz", "member x_train.npy, byte 8", "not a .npy array")


def test_a_large_archive_is_streamed(tmp_path: Path) -> None:
    """80 MB of rows pass through with less than 40 MB in memory."""
    x = np.zeros((20_000, 4096), np.uint8)
    source = _write(
        tmp_path / "s.npz", True, x_train=x, y_train=np.arange(20_000) % 4, x_test=x[:12]
    )
    del x
    tracemalloc.start()
    try:
        import_dataset("npz", source, tmp_path / "out.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def _npy(header: bytes, values: bytes = b"") -> bytes:
    """Return a .npy file of version 1 with this header, whatever it says."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + values


def _header(dtype: str, shape: str) -> bytes:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        _npy(b"{'descr': ("),
        _npy(b"(" * 5000),
        _npy(b"{" * 200),
        _npy(b"[" + b"-" * 9000 + b"1]"),
        _npy(b"\xff\xfe"),
        _npy(_header("<U0", "(2,)")),
        _npy(_header("<U4", "(-1,)"), b"a" * 400),
        _npy(_header("<U4", "(True,)"), b"a" * 400),
        _npy(_header("<U1", "(2,)"), b"\xff" * 8),
        _npy(_header("<U1", "(2,)"), "\ud800b".encode("utf-32-le", "surrogatepass")),
        _npy(_header("<U1", f"({'9' * 4000},)")),
        _npy(_header("<U1", "(" + "1," * 2000 + ")")),
        _npy(_header("V8", "(2,)"), b"a" * 16),
    ],
)
def test_headers_that_numpy_stumbles_over(tmp_path: Path, content: bytes) -> None:
    source = _write(tmp_path / "s.npz")
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("class_names.npy", content)
    import_fails("npz", source, "class")


def test_a_damaged_lzma_member_and_names_that_are_no_text(tmp_path: Path) -> None:
    source = _write(tmp_path / "s.npz")
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed = tmp_path / "lzma.npz"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    good = packed.read_bytes()
    at = good.index(b"x_train.npy") + 30
    packed.write_bytes(good[:at] + bytes(200) + good[at + 200 :])
    import_fails("npz", packed, "x_train")
    # The flag says that names are UTF-8.
    named = tmp_path / "named.npz"
    with zipfile.ZipFile(named, "w") as archive:
        archive.writestr("\u00e9.npy", b"")
    named.write_bytes(named.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    import_fails("npz", named, "damaged")


def test_a_long_list_of_members_is_cut(tmp_path: Path) -> None:
    source = tmp_path / "many.npz"
    with zipfile.ZipFile(source, "w") as archive:
        for number in range(2000):
            archive.writestr(f"member {number}.npy", b"")
    assert len(import_fails("npz", source, "has no member x_train.npy")) < 1000

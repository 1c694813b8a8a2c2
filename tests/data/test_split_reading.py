"""What a split returns: the rows asked for, scaled, in order, without reading the rest."""

from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_builders import write_h5
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.row_store import ArrayRowStore, plan_store_reads
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import DataError

N = 97


def _images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 256, (N, 5, 4, 3), dtype=np.uint8)
    return x, rng.integers(0, 3, N, dtype=np.int64)


STORAGE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "small-chunks": {"chunks": (7, 5, 4, 3), "compression": "gzip"},
    "one-chunk": {"chunks": (N, 5, 4, 3)},
    "split-rows": {"chunks": (10, 5, 2, 1), "shuffle": True, "fletcher32": True},
}


@pytest.fixture(scope="module", params=sorted(STORAGE))
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = _images()
    return write_h5(tmp_path_factory.mktemp("h5") / "s.h5", x, y, **STORAGE[request.param])


@settings(max_examples=40, deadline=None)
@given(ids=st.lists(st.integers(0, N - 1), max_size=150))
def test_rows_equal_numpy_indexing(stored: Path, ids: list[int]) -> None:
    x, y = _images()
    wanted = np.asarray(ids, dtype=np.int64)
    with open_dataset(stored) as data:
        train = data.split("train")
        rows = train.read(wanted)
        labels = train.labels(wanted)
    expected = x[wanted].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    assert rows.dtype == np.float32
    assert np.array_equal(rows, expected)
    assert np.array_equal(labels, y[wanted])


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(st.integers(0, 500), max_size=60),
    chunk_rows=st.integers(1, 40),
    chunks_per_range=st.integers(1, 8),
)
def test_read_plan_serves_every_id_once_and_reads_no_unused_chunk(
    ids: list[int], chunk_rows: int, chunks_per_range: int
) -> None:
    ordered = np.sort(np.asarray(ids, dtype=np.int64))
    limit = chunk_rows * chunks_per_range
    plan = plan_store_reads(ordered, chunk_rows=chunk_rows, range_rows=limit)
    served = [i for first, last, _, _ in plan for i in ordered[first:last].tolist()]
    assert served == ordered.tolist()
    used = {i // chunk_rows for i in ids}
    touched: list[int] = []
    for first, last, start, stop in plan:
        assert start <= ordered[first]
        assert ordered[last - 1] < stop <= start + limit
        touched += range(start // chunk_rows, (stop - 1) // chunk_rows + 1)
    assert sorted(touched) == sorted(used)


def test_vectors_and_floats_stay_as_they_are(tmp_path: Path) -> None:
    x = np.linspace(-3, 3, 60, dtype=">f4").reshape(12, 5)
    y = np.arange(12, dtype=">i8") % 3
    with open_dataset(write_h5(tmp_path / "v.h5", x, y)) as data:
        train = data.split("train")
        assert (train.row_shape, train.input_shape) == ((5,), (5,))
        assert str(train.dtype) == "float32"
        assert np.array_equal(train.read(np.arange(12)), x.astype(np.float32))
        assert np.array_equal(train.labels(), y)


def test_scaling_maps_0_to_255_onto_0_to_1(tmp_path: Path) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with open_dataset(write_h5(tmp_path / "s.h5", x, np.zeros(16, np.int64))) as data:
        rows = data.split("train").read(np.arange(16)).ravel()
    assert rows[0] == 0
    assert rows[-1] == 1
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("bad", [[-1], [N], [0, 2**40]])
def test_an_id_outside_the_split_is_refused(stored: Path, bad: list[int]) -> None:
    with open_dataset(stored) as data, pytest.raises(ValueError, match="leave the 97 samples"):
        data.split("train").read(np.asarray(bad, dtype=np.int64))


def test_subset_renumbers_from_zero_and_nests(stored: Path) -> None:
    x, y = _images()
    with open_dataset(stored) as data:
        train = data.split("train")
        part = train.subset(range(20, 90)).subset(range(60, 70))
        assert len(part) == 10
        assert np.array_equal(part.labels(), y[80:90])
        assert np.array_equal(part.labels(np.asarray([9, 0])), y[[89, 80]])
        assert np.array_equal(part.read(np.asarray([3])), train.read(np.asarray([83])))
        assert part.read(np.asarray([3]))[0, 2, 4, 1] == x[83, 4, 1, 2] / np.float32(255)
        with pytest.raises(ValueError, match="leave the 10 samples"):
            part.read(np.asarray([10]))
        for wrong in (range(98), range(5, 5), range(0, 10, 2), range(-3, 4)):
            with pytest.raises(ValueError, match="not a range"):
                train.subset(wrong)


def test_selected_samples_are_the_ones_asked_for_in_that_order(stored: Path) -> None:
    _, y = _images()
    with open_dataset(stored) as data:
        part = data.split("train").subset(range(10, 60))
        chosen = part.selected(np.asarray([7, 40, 0]))
        assert len(chosen) == 3
        assert np.array_equal(chosen.labels(), y[[17, 50, 10]])
        assert np.array_equal(chosen.read(np.arange(3)), part.read(np.asarray([7, 40, 0])))
        again = chosen.selected(np.asarray([2, 1]))
        assert np.array_equal(again.read(np.arange(2)), part.read(np.asarray([0, 40])))
        with pytest.raises(ValueError, match="leave the 3 samples"):
            chosen.read(np.asarray([3]))
        for wrong in ([], [1, 1]):
            with pytest.raises(ValueError, match="not different samples"):
                part.selected(np.asarray(wrong, dtype=np.int64))
        with pytest.raises(ValueError, match="leave the 50 samples"):
            part.selected(np.asarray([50]))


def test_fingerprint_of_a_selection_is_that_of_its_samples_in_stored_order(stored: Path) -> None:
    x, y = _images()
    kept = np.asarray([60, 3, 90, 4])
    alone = Split(
        "train", ArrayRowStore(x[np.sort(kept)], "x"), ArrayRowStore(y[np.sort(kept)], "y")
    )
    with open_dataset(stored) as data:
        train = data.split("train")
        assert train.selected(kept).fingerprint() == alone.fingerprint()
        assert train.selected(kept[::-1]).fingerprint() == alone.fingerprint()
        assert train.selected(kept[1:]).fingerprint() != alone.fingerprint()
        everything = np.random.default_rng(0).permutation(N)
        assert train.reordered(everything).fingerprint() == train.fingerprint()
        late = train.subset(range(3, N)).selected(kept - 3)
        assert late.fingerprint() == alone.fingerprint()


def test_fingerprint_depends_on_content_only(tmp_path: Path) -> None:
    x, y = _images()
    prints = set()
    for name, storage in STORAGE.items():
        with open_dataset(write_h5(tmp_path / f"{name}.h5", x, y, **storage)) as data:
            prints.add(data.split("train").fingerprint())
            prints.add(data.split("train").subset(range(N)).fingerprint())
    prints.add(Split("train", ArrayRowStore(x, "x"), ArrayRowStore(y, "y")).fingerprint())
    assert len(prints) == 1


def test_fingerprint_sees_every_change(tmp_path: Path) -> None:
    x, y = _images()

    def fingerprint(x: NDArray[Any], y: NDArray[np.int64]) -> str:
        return str(Split("train", ArrayRowStore(x, "x"), ArrayRowStore(y, "y")).fingerprint())

    pixel, label = x.copy(), y.copy()
    pixel[50, 1, 1, 1] ^= 1
    label[50] = (label[50] + 1) % 3
    whole = Split("train", ArrayRowStore(x, "x"), ArrayRowStore(y, "y"))
    variants = {
        fingerprint(x, y),
        fingerprint(pixel, y),
        fingerprint(x, label),
        fingerprint(x[::-1], y[::-1]),
        fingerprint(x.reshape(N, 4, 5, 3), y),
        fingerprint(x.reshape(N, 60), y),
        fingerprint(x.astype(np.float32), y),
        str(whole.subset(range(1, N)).fingerprint()),
    }
    assert len(variants) == 8


def test_a_value_that_is_not_finite_is_named_when_read(tmp_path: Path) -> None:
    x = np.zeros((500, 3), np.float32)
    x[123, 1] = np.nan
    x[400, 0] = np.inf
    with open_dataset(write_h5(tmp_path / "nan.h5", x, np.arange(500) % 3)) as data:
        train = data.split("train")
        train.read(np.arange(100))
        with pytest.raises(DataError, match=r"nan\.h5:/train/x, row 123: .*not finite"):
            train.subset(range(100, 500)).read(np.arange(400))


def test_a_damaged_chunk_is_named_when_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 64), dtype=np.uint8)
    path = write_h5(tmp_path / "d.h5", x, np.zeros(200, np.int64), chunks=(50, 64), fletcher32=True)
    with h5py.File(path) as file:
        place = file["train/x"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 10] ^= 0xFF
    path.write_bytes(content)
    with open_dataset(path) as data:
        train = data.split("train")
        assert np.array_equal(train.read(np.arange(100)) * 255, x[:100])
        with pytest.raises(DataError, match=r"d\.h5:/train/x, rows 100 to 149: .*damaged"):
            train.read(np.arange(200))


def test_reading_after_close_says_so(stored: Path) -> None:
    data = open_dataset(stored)
    data.close()
    data.close()
    with pytest.raises(ValueError, match="was closed"):
        data.split("train").read(np.arange(2))


def test_a_large_set_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """200 MB of rows; opening, a scattered batch and the fingerprint each stay below 25 MB."""
    rows, width = 200_000, 1024
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file.attrs["class_names"] = ["a", "b"]
        x = file.create_dataset(
            "train/x", (rows, width), "u1", chunks=(64, width), compression="gzip"
        )
        packed = zlib.compress(bytes(64 * width))
        for start in range(0, rows, 64):
            x.id.write_direct_chunk((start, 0), packed)
        file.create_dataset("train/y", data=np.arange(rows) % 2)
    ids = np.random.default_rng(0).integers(0, rows, 256)
    tracemalloc.start()
    try:
        with open_dataset(path) as data:
            train = data.split("train")
            batch = train.read(ids)
            train.fingerprint()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch.shape == (256, width)
    assert peak < 25e6


class _Spy(ArrayRowStore):
    """Counts rows read."""

    def __init__(self, array: NDArray[Any], chunk_rows: int) -> None:
        super().__init__(array, "spy")
        self.chunk_rows = chunk_rows
        self.reads: list[tuple[int, int]] = []

    def read_rows(self, start: int, stop: int) -> NDArray[Any]:
        self.reads.append((start, stop))
        return super().read_rows(start, stop)


def test_only_the_chunks_asked_for_are_read_and_each_once() -> None:
    spy = _Spy(np.zeros((200_000, 8), np.uint8), chunk_rows=100)
    split = Split("train", spy, ArrayRowStore(np.zeros(200_000, np.int64), "y"))
    ids = np.asarray([150_050, 7, 150_001, 7, 150_199, 90_000, 3])
    split.read(ids)
    assert spy.reads == [(3, 8), (90_000, 90_001), (150_001, 150_200)]


def test_digits_are_fixed_stratified_and_need_no_file() -> None:
    with open_dataset("digits") as digits:
        train, test = digits.split("train"), digits.split("test")
        assert (len(train), len(test), digits.num_classes) == (1437, 360, 10)
        assert train.row_shape == (8, 8, 1)
        rows = train.read(np.arange(1437))
        assert rows.shape == (1437, 1, 8, 8)
        assert (rows.min(), rows.max()) == (0, 1)
        share = np.bincount(test.labels()) / np.bincount(
            np.concatenate([train.labels(), test.labels()])
        )
        assert np.abs(share - 360 / 1797).max() < 0.006
        # The split must never change: every result on digits depends on it.
        assert train.fingerprint().hex.startswith("edb71dfc47d9f739")


@pytest.mark.shared
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_published_subset_opens(shared_dir: Path, name: str, classes: int) -> None:
    with open_dataset(shared_dir / "data" / f"{name}.h5") as data:
        assert data.num_classes == classes
        test = data.split("test")
        assert test.read(np.asarray([5, 5])).shape == (2, 3, 32, 32)
        assert set(np.bincount(test.labels())) == {len(test) // classes}

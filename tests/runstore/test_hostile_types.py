"""Types that HDF5 has and no run writes: refused or named as a difference, wherever they stand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example
from h5py import h5a, h5d, h5s, h5t

from clicooper_hpc.cli import main
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.expected_files import index_differences, shard_differences
from clicooper_hpc.runstore.hdf5 import reader
from clicooper_hpc.runstore.hdf5.reader import read_hdf5_file
from clicooper_hpc.runstore.hdf5.vetting import UnexpectedContentError, is_plain_hdf5_type
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.finished_run(tmp_path_factory.mktemp("types") / "run", ranks=2).path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(original, tmp_path / "run")))


def whole(size: int, precision: int | None = None, offset: int = 0) -> Any:
    kind = h5t.STD_I32LE.copy()
    kind.set_size(size)
    kind.set_precision(precision or 8 * size)
    kind.set_offset(offset)
    return kind


def floating(*fields: int) -> Any:
    """Sign, exponent (place, bits) and fraction (place, bits) of a float of 64 bits."""
    kind = h5t.IEEE_F64LE.copy()
    kind.set_fields(*fields)
    return kind


def opposite_truth() -> Any:
    kind = h5t.enum_create(h5t.STD_I8LE)
    kind.enum_insert(b"TRUE", 0)
    kind.enum_insert(b"FALSE", 1)
    return kind


def compound() -> Any:
    return h5t.py_create(np.dtype([("a", "i4"), ("b", "f8")]))


def odd_compound() -> Any:
    kind = h5t.create(h5t.COMPOUND, 16)
    kind.insert(b"dataset", 0, h5t.STD_REF_OBJ)
    kind.insert(b"dimension", 8, whole(3))
    return kind


TYPES: dict[str, Callable[[], Any]] = {
    "3 bytes": lambda: whole(3),
    "7 bytes": lambda: whole(7),
    "13 bits": lambda: whole(4, 13),
    "13 bits further up": lambda: whole(4, 13, 5),
    "exponent of 23 bits": lambda: floating(63, 40, 23, 0, 40),
    "time": lambda: h5t.UNIX_D32LE.copy(),
    "bit field": lambda: h5t.STD_B32LE.copy(),
    "object reference": lambda: h5t.STD_REF_OBJ.copy(),
    "region reference": lambda: h5t.STD_REF_DSETREG.copy(),
    "compound": compound,
    "compound of an odd number": odd_compound,
    "array": lambda: h5t.array_create(h5t.STD_I32LE, (2,)),
    "lists of numbers": lambda: h5t.vlen_create(h5t.STD_I32LE),
    "lists of odd numbers": lambda: h5t.vlen_create(whole(3)),
    "opaque": lambda: h5t.create(h5t.OPAQUE, 5),
    "truth the other way round": opposite_truth,
}
if hasattr(h5t, "COMPLEX_IEEE_F64LE"):
    TYPES["complex"] = lambda: h5t.COMPLEX_IEEE_F64LE.copy()


def put_attribute(item: Any, name: str, kind: Any) -> None:
    if name in item.attrs:
        del item.attrs[name]
    h5a.create(item.id, name.encode(), kind, h5s.create(h5s.SCALAR))


@pytest.mark.parametrize("kind", TYPES)
def test_no_such_type_is_plain(kind: str) -> None:
    assert not is_plain_hdf5_type(TYPES[kind]())


@pytest.mark.parametrize("name", ["?", "i1", "<u2", ">i4", "<u8", "<f2", ">f4", "<f8", "S9"])
def test_types_of_a_run_are_plain(name: str) -> None:
    assert is_plain_hdf5_type(h5t.py_create(np.dtype(name), logical=True))


@pytest.mark.parametrize("kind", TYPES)
def test_attributes_of_such_a_type_are_differences(kind: str, copy: RunFolder) -> None:
    names = ("extra", "units", "DIMENSION_LIST", "REFERENCE_LIST")
    for path, place in ((copy.shard(1), "steps/step"), (copy.index, "metrics/loss")):
        with h5py.File(path, "r+", locking=False) as file:
            for name in names:
                put_attribute(file[place], name, TYPES[kind]())
    run = open_run(copy.path)
    in_shard = shard_differences(run, 1, finished=True)
    in_index = index_differences(run, finished=True)
    for name in names:
        assert [line for line in in_shard if line.startswith(f"/steps/step@{name} ")], in_shard
        assert [line for line in in_index if line.startswith(f"/metrics/loss@{name} ")], in_index


@pytest.mark.parametrize("kind", TYPES)
def test_where_it_would_be_read_it_is_refused_by_one_line(
    kind: str, copy: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(copy.shard(1), "r+", locking=False) as file:
        put_attribute(file, "run_id", TYPES[kind]())
    with pytest.raises(RunFolderError, match=r"rank-001\.h5, / \(attribute run_id\): its type is"):
        open_run(copy.path).table("steps", rank=1)
    assert "rank 1: UNREADABLE (its type is" in open_run(copy.path).summary()
    with h5py.File(copy.index, "r+", locking=False) as file:
        put_attribute(file, "extra", TYPES[kind]())
    for verb in ("inspect", "verify"):
        assert main([verb, str(copy.path)]) == 2
        out, err = capfd.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert "run.h5, / (attribute extra): its type is" in err


# Of datasets HDF5 itself takes no numbers with fewer bits than their bytes have.
@pytest.mark.parametrize("kind", [kind for kind in TYPES if not kind.startswith("13 bits")])
def test_a_dataset_of_such_a_type_is_refused(kind: str, copy: RunFolder) -> None:
    with h5py.File(copy.shard(1), "r+", locking=False) as file:
        del file["steps/step_s"]
        h5d.create(file["steps"].id, b"step_s", TYPES[kind](), h5s.create_simple((1,)))
    with pytest.raises(RunFolderError, match=r"rank-001\.h5, /steps/step_s: its type is"):
        open_run(copy.path).table("steps", rank=1)
    with h5py.File(copy.index, "r+", locking=False) as file:
        del file["metrics/loss"]
        space = h5s.create_simple((1,))
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_virtual(space, b"rank-001.h5", b"training/loss", space)
        h5d.create(file["metrics"].id, b"loss", TYPES[kind](), space, dcpl=plan)
    with pytest.raises(RunFolderError, match=r"run\.h5, /metrics/loss: its type is"):
        open_run(copy.path)


def test_references_to_nowhere_and_many_long_texts_are_differences(copy: RunFolder) -> None:
    with h5py.File(copy.shard(1), "r+", locking=False) as file:
        scale = file["steps/step"]
        users = scale.attrs["REFERENCE_LIST"]
        users["dataset"][0] = file.create_group("gone").ref
        del file["gone"]
        scale.attrs["REFERENCE_LIST"] = users
        # Each of the same kilobytes: what they unfold to has no bound.
        texts = np.array(["x" * 1000] * 3000, object)
        file.attrs.create("texts", texts, dtype=h5py.string_dtype())
    found = shard_differences(open_run(copy.path), 1, finished=True)
    assert [line for line in found if "/steps/step@REFERENCE_LIST is" in line and "nothing" in line]
    assert [line for line in found if line.startswith("/@texts must not be there")]
    assert "xxx" not in "".join(found)


@pytest.mark.parametrize("error", [TypeError, ValueError, OSError, KeyError, RuntimeError])
def test_whatever_h5py_makes_of_damage_is_one_line(error: type[Exception], copy: RunFolder) -> None:
    def damaged(_: Any) -> None:
        raise error("wrong fletcher32")

    with pytest.raises(RunFolderError, match=r"rank-001\.h5: the file is damaged or not HDF5"):
        read_hdf5_file(copy.shard(1), damaged)


def test_a_file_marked_live_that_takes_long_to_refuse_is_not_read_twenty_times(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def slow(_: Any) -> None:
        attempts.append(time.monotonic())
        time.sleep(0.06)
        raise UnexpectedContentError("/x", "is a link")

    monkeypatch.setattr(reader, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(reader, "is_superblock_live", lambda _: True)
    with pytest.raises(RunFolderError, match="is a link"):
        read_hdf5_file(copy.shard(1), slow)
    assert len(attempts) == 2

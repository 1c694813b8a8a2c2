from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.runstore.hdf5 import parallel
from clicooper_hpc.runstore.index import RunResult, create_index
from clicooper_hpc.runstore.index_end import complete_index, finish_index
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.tables.schema import STEPS, TRAINING


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.finished_run(tmp_path_factory.mktemp("index") / "run").path


def all_datasets(file: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(group: Any, at: str) -> None:
        for name, item in group.items():
            if isinstance(item, h5py.Dataset):
                found[f"{at}{name}"] = item
            else:
                visit(item, f"{at}{name}/")

    visit(file, "")
    return found


def test_every_dataset_says_what_it_is_in_what_unit_along_what(run_path: Path) -> None:
    with h5py.File(run_path / "run.h5", "r") as file:
        datasets = all_datasets(file)
        assert len(datasets) > 80
        for name, dataset in datasets.items():
            if re.search(r"(^|/)string\d+$", name):
                # The axis of characters of a text, which netCDF does not show.
                assert dataset.is_scale
                continue
            assert dataset.attrs["units"], name
            assert dataset.attrs["long_name"], name
            if dataset.ndim:
                assert dataset.is_scale or len(dataset.dims[0]), name
            string = h5py.check_string_dtype(dataset.dtype)
            assert string is None or string.length is not None, name
            owner = name.split("/")[0]
            if owner in {"ranks", "evaluation"}:
                assert dataset.chunks, name
                assert dataset.maxshape[0] is None, name
                assert (dataset.compression, dataset.shuffle, dataset.fletcher32) == (
                    "gzip",
                    True,
                    True,
                ), name


def test_bare_h5py_sees_all_ranks_as_one_array(run_path: Path) -> None:
    steps = range(8)
    with h5py.File(run_path / "run.h5", "r") as file:
        metrics = file["metrics"]
        assert metrics["step"][:].tolist() == list(steps)
        expected = [[example.step_row(rank, i)["step_s"] for rank in range(3)] for i in steps]
        assert np.array_equal(metrics["step_s"][:], expected)
        losses = [example.step_row(2, i, "training")["loss"] for i in steps]
        assert np.array_equal(metrics["loss"][:], losses)
        by_rank = metrics["loss_by_rank"][:]
        assert np.isnan(by_rank[:, 0]).all()
        assert np.array_equal(by_rank[:, 2], losses)
        assert (metrics["complete"][:] == 1).all()
        assert [scale.name for dim in metrics["step_s"].dims for scale in dim.values()] == [
            "/metrics/step",
            "/rank",
        ]
        # No scale of its own: the labels of the axis for who opens this group alone.
        assert metrics["rank"][:].tolist() == [0, 1, 2]
        assert not metrics["rank"].is_scale
        assert file["evaluation/clean_accuracy"][:].tolist() == [0.75]
        assert file["privacy/events/epsilon"][:].tolist() == [8.0]
        assert file["ranks/002/training/loss"][:].tolist() == losses
        names = {column.name for table in (STEPS, TRAINING) for column in table.columns}
        assert names <= set(metrics)


def test_root_attributes_tell_where_the_run_comes_from(run_path: Path) -> None:
    with h5py.File(run_path / "run.h5", "r") as file:
        attrs = dict(file.attrs)
        assert attrs["format"] == b"clicooper-run"
        assert attrs["format_version"] == 2
        assert attrs["mpi_library"].decode() == "MPICH 5.0 (ä)"
        assert attrs["torch_version"] == b"2.0"
        assert attrs["num_ranks"] == 3
        assert attrs["status"] == b"complete"
        assert [host.tobytes().decode() for host in file["hosts"]] == ["node0", "node1", "node2"]
        assert file["results/clean_accuracy"][()] == 0.875
        assert file["results/wall_s"].attrs["units"] == b"s"
        assert file["privacy"].attrs["epsilon"] == 8.0
        assert file["privacy/card"][()].decode() == example.PRIVACY.text
        assert file["pipeline/cuts"][:].tolist() == [0, 2]
    # Nothing but fixed-length text, which every HDF5 reader understands.
    with h5py.File(run_path / "run.h5", "r") as file:
        assert not [n for n in attrs if h5py.check_vlen_dtype(file.attrs.get_id(n).dtype)]


def test_the_index_reads_before_any_shard_is_there(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    create_index(path, example.header(), tables=example.tables_by_rank())
    with h5py.File(path, "r") as file:
        assert file["metrics/loss"].shape == (0,)
        assert file.attrs["status"] == b"incomplete"
    run = open_run(path)
    assert run.status == "incomplete"
    assert run.missing_ranks == (0, 1, 2)
    assert run.job == example.JOB


def test_an_index_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    create_index(path, example.header(), tables=example.tables_by_rank())
    before = path.read_bytes()
    with pytest.raises(RunFolderError, match="never overwritten"):
        create_index(path, example.header(), tables=example.tables_by_rank())
    assert path.read_bytes() == before


def test_finishing_twice_keeps_the_last_word(tmp_path: Path) -> None:
    folder = example.finished_run(tmp_path / "run")
    folder.index.unlink()
    create_index(folder.index, example.header(), tables=example.tables_by_rank())
    for accuracy, status in ((0.5, "incomplete"), (0.625, "complete")):
        finish_index(folder.index, results={"clean_accuracy": RunResult(accuracy, "1", "Accuracy")})
        if status == "complete":
            complete_index(folder.index)
        run = open_run(folder.path)
        assert run.results == {"clean_accuracy": accuracy}
        assert run.status == status
        assert run.changed_ranks == ()
    with h5py.File(folder.index, "r") as file:
        assert file["shard_digests"].dims[0][0].name == "/rank"
        assert file["metrics/loss"].shape == (8,)


def test_a_failed_finish_leaves_an_incomplete_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    before = folder.index.read_bytes()

    def refuse(path: Path) -> None:
        raise OSError(122, "Disk quota exceeded", str(path))

    monkeypatch.setattr("clicooper_hpc.runstore.atomic_files.fsync_path", refuse)
    with pytest.raises(EnvironmentUnfitError, match="Disk quota exceeded"):
        finish_index(folder.index, results=example.RESULTS)
    assert folder.index.read_bytes() == before
    assert not list(folder.path.glob("*.part"))


def test_a_job_text_of_any_length_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    text = 'name = "' + "é" * 100_000 + '"'
    header = example.header()
    long = {name: getattr(header, name) for name in header.__slots__} | {"resolved_job": text}
    create_index(path, type(header)(**long), tables=example.tables_by_rank())
    assert open_run(path).job == {"name": "é" * 100_000}


MAPS = """\
55d0-55d1 r--p 00000000 fe:00 1234567                    /usr/bin/python3.11
7f00-7f01 r-xp 00019000 fe:00 2412                       /my env/lib/libmpi.so.12.5.2
7f02-7f03 rw-p 00000000 00:00 0
7f04-7f05 r-xp 00019000 fe:00 2414                       /my env/lib/libmpi.so.12.5.2
7f06-7f07 r-xp 00019000 fe:00 2415                       /usr/lib/libmpi_cxx.so.40.30.1
7f08-7f09 r-xp 00019000 fe:00 2416                       /usr/lib/libmpi.so.40.30.4
"""


def test_parallel_hdf5_of_another_mpi_library_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_MAPPED_FILES", tmp_path / "maps")
    monkeypatch.setattr(h5py, "get_config", lambda: SimpleNamespace(mpi=True))
    both = "(/my env/lib/libmpi.so.12.5.2 and /usr/lib/libmpi.so.40.30.4 loaded)"
    (tmp_path / "maps").write_text(MAPS)
    with pytest.raises(EnvironmentUnfitError, match=re.escape(f"another MPI library {both}")):
        parallel.require_parallel_hdf5()
    (tmp_path / "maps").write_text(MAPS.replace("/my env/lib/libmpi.so.12.5.2", "/lib/libucp.so.0"))
    parallel.require_parallel_hdf5()


def test_one_file_for_all_needs_parallel_hdf5(tmp_path: Path) -> None:
    if h5py.get_config().mpi:
        pytest.skip("this h5py has MPI")
    header = example.header(layout="single")
    with pytest.raises(EnvironmentUnfitError, match=r'output\.layout = "shards"'):
        create_index(tmp_path / "run.h5", header, tables=example.tables_by_rank(), rows={})
    assert not list(tmp_path.iterdir())

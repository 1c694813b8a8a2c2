"""Comparing a run with what its version writes opens no file but the one compared."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore import expected_files
from clicooper_hpc.runstore.expected_files import index_differences, shard_differences
from clicooper_hpc.runstore.hdf5.files import hdf5_text
from clicooper_hpc.runstore.hdf5.outline import hdf5_outline
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.finished_run(tmp_path_factory.mktemp("hostile") / "run").path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> RunFolder:
    # Opening it for reading waits for ever.
    os.mkfifo(tmp_path / "pipe")
    return RunFolder(Path(shutil.copytree(original, tmp_path / "run")))


def link_column(shard: Path) -> None:
    with h5py.File(shard, "r+", locking=False) as file:
        for name in {"steps", "training"} & set(file):
            for column in list(file[name]):
                del file[name][column]
                file[name][column] = h5py.ExternalLink("../pipe", "/x")


def pipe(shard: Path) -> None:
    shard.unlink()
    os.mkfifo(shard)


def link_to_a_pipe(shard: Path) -> None:
    shard.unlink()
    shard.symlink_to("../pipe")


@pytest.mark.parametrize("change", [link_column, pipe, link_to_a_pipe])
@pytest.mark.parametrize("at", ["run", "elsewhere"])
def test_the_views_of_the_index_are_compared_without_opening_their_sources(
    change: Callable[[Path], None],
    at: str,
    copy: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # HDF5 looks for sources beside the file, and by their names in the working directory.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / at)
    honest = index_differences(open_run(copy.path), finished=True)
    for rank in range(3):
        change(copy.shard(rank))
    run = open_run(copy.path)
    assert index_differences(run, finished=True) == honest
    assert not [line for line in honest if "/metrics" in line]
    with pytest.raises(RunFolderError, match=r"rank-002\.h5"):
        shard_differences(run, 2, finished=True)


def test_a_single_index_that_links_to_tables_is_not_followed(copy: RunFolder) -> None:
    copy.shard(0).unlink()
    copy.shard(0).symlink_to("../pipe")
    with h5py.File(copy.index, "r+", locking=False) as file:
        file.attrs["layout"] = hdf5_text("single")
        del file["ranks/000"]
        file["ranks/000"] = h5py.ExternalLink("rank-000.h5", "/")
    differences = index_differences(open_run(copy.path), finished=True)
    assert "/ranks/000 must not be there (a link to / in rank-000.h5)" in differences


@pytest.mark.parametrize("layout", ["shards", "single"])
def test_ranks_that_are_only_named_are_not_composed(
    layout: str, copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def composed(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(expected_files, "compose_index", composed)
    count = 4096
    with h5py.File(copy.index, "r+", locking=False) as file:
        for name in ("hosts", "rank", "shard_digests"):
            del file[name]
        file["hosts"] = np.array([[b"n"]] * count)
        file["rank"] = np.arange(count)
        file.attrs["num_ranks"] = count
        file.attrs["layout"] = hdf5_text(layout)
        file.attrs["status"] = hdf5_text("incomplete")
    assert index_differences(open_run(copy.path), finished=True)
    with h5py.File(copy.index, "r+", locking=False) as file:
        for rank in range(3, count):
            file[f"ranks/{rank:03d}"] = h5py.ExternalLink(f"rank-{rank:03d}.h5", "/")
    differences = index_differences(open_run(copy.path), finished=True)
    due = "/metrics/complete is no view of 4096 ranks"
    assert (due if layout == "shards" else "/ranks/003/steps is missing") in differences


def test_references_are_named_without_a_walk_through_the_file_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(h5py.h5r, "get_name", walk)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        scale = file.create_dataset("a/scale", data=np.zeros(1))
        scale.make_scale("x")
        file.create_dataset("b/data", data=np.zeros(1)).dims[0].attach_scale(scale)
        lines = hdf5_outline(file)
    assert "[['/a/scale']]" in lines["/b/data@DIMENSION_LIST"]
    assert "[('/b/data', 0)]" in lines["/a/scale@REFERENCE_LIST"]


def test_a_shard_that_may_not_be_opened_is_one_line(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    run = open_run(copy.path)
    monkeypatch.setattr("clicooper_hpc.runstore.hdf5.reader.open_regular_file", refused)
    monkeypatch.setattr("clicooper_hpc.runstore.index.open_regular_file", refused)
    with pytest.raises(RunFolderError, match=r"rank-001\.h5: the file cannot be opened"):
        run.table("steps", rank=1)
    assert run.changed_ranks == run.ranks

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import runstore_example as example

import clicooper_hpc
from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.reader import MissingRanksWarning, open_run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, STEPS


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return example.finished_run(tmp_path_factory.mktemp("reader") / "run").path


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(original, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def test_reading_needs_neither_torch_nor_mpi4py(original: Path) -> None:
    code = (
        "import sys, clicooper_hpc\n"
        "run = clicooper_hpc.open_run(sys.argv[1])\n"
        "run.table('training'), run.to_xarray(), run.summary()\n"
        "import h5py\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert 'mpi4py' not in sys.modules or h5py.get_config().mpi, 'mpi4py'\n"
    )
    subprocess.run([sys.executable, "-c", code, str(original)], check=True)


def test_folder_and_index_open_the_same_run(original: Path) -> None:
    by_folder = clicooper_hpc.open_run(str(original))
    assert by_folder == open_run(original / "run.h5")
    assert by_folder.status == "complete"
    assert by_folder.job == example.JOB
    assert by_folder.ranks == (0, 1, 2)
    assert by_folder.missing_ranks == by_folder.changed_ranks == ()
    assert by_folder.results == {"clean_accuracy": 0.875, "wall_s": 12.5}
    text = example.PRIVACY.text
    assert by_folder.privacy == {**example.PRIVACY.card, "text": text, "promised": text}
    assert by_folder.pipeline["layer_names"] == list(example.PIPELINE.layer_names)
    assert by_folder.pipeline["cuts"] == list(example.PIPELINE.cuts)


def test_a_table_of_one_rank_or_of_all(original: Path) -> None:
    run = open_run(original)
    one = run.table("steps", rank=2)
    assert list(one.columns) == [column.name for column in STEPS.columns]
    assert one["bytes_sent_forward"].tolist() == [2000 + step for step in range(8)]
    assert one["step"].dtype == np.int64
    every = run.table("training")
    assert every["rank"].tolist() == [1] * 8 + [2] * 8
    assert every.attrs["units"]["loss"] == "nat"
    assert every.attrs["missing_ranks"] == []
    assert run.table("evaluation")["released_accuracy"].isna().all()
    assert set(run.table_names(0)) == {table.name for table in OWNER_TABLES}


def test_xarray_has_dimensions_units_and_gaps_where_nothing_is_recorded(original: Path) -> None:
    dataset = open_run(original).to_xarray()
    assert dict(dataset.sizes) == {"step": 8, "rank": 3}
    assert float(dataset["step_s"].sel(step=3, rank=2)) == example.step_row(2, 3)["step_s"]
    assert dataset["loss"].isnull().sum() == 8
    assert dataset["loss"].sel(rank=1).notnull().all()
    assert dataset["epoch"].values.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert dataset["host"].values.tolist() == ["node0", "node1", "node2"]
    assert dataset.attrs["run_id"] == example.RUN_ID
    assert all(v.attrs["units"] and v.attrs["long_name"] for v in dataset.data_vars.values())


def test_ranks_that_stopped_at_different_steps_are_aligned_by_step(tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    example.write_steps(writers[0], 0, range(2))
    example.write_steps(writers[1], 1, range(3, 6))
    example.write_steps(writers[1], 1, range(4, 5))
    for writer in writers:
        writer.close()
    dataset = open_run(folder.path).to_xarray()
    assert dataset["step"].values.tolist() == [0, 1, 3, 4, 5]
    assert np.isnan(dataset["step_s"].sel(rank=2)).all()
    assert float(dataset["step_s"].sel(step=5, rank=1)) == example.step_row(1, 5)["step_s"]
    assert np.isnan(dataset["step_s"].sel(step=5, rank=0))


def test_a_missing_shard_is_reported_and_never_filled_in(copy: RunFolder) -> None:
    copy.shard(1).unlink()
    run = open_run(copy.path)
    assert run.missing_ranks == (1,)
    assert run.changed_ranks == (1,)
    with pytest.warns(MissingRanksWarning, match=r"rank-001\.h5 missing"):
        frame = run.table("steps")
    assert set(frame["rank"]) == {0, 2}
    assert frame.attrs["missing_ranks"] == [1]
    with pytest.warns(MissingRanksWarning):
        dataset = run.to_xarray()
    assert dataset["rank"].values.tolist() == [0, 2]
    assert dataset.attrs["missing_ranks"] == "1"
    with pytest.raises(RunFolderError, match=r"rank-001\.h5: the file is missing"):
        run.table("steps", rank=1)
    assert "rank-001.h5 IS MISSING" in run.summary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(run.table("steps", rank=2)) == 8


def test_a_damaged_shard_is_named_and_the_others_still_read(copy: RunFolder) -> None:
    path = copy.shard(2)
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        chunk = file["training/loss"].id.get_chunk_info(0)
    content[chunk.byte_offset + 3] ^= 1
    path.write_bytes(content)
    run = open_run(copy.path)
    with pytest.raises(RunFolderError, match=r"rank-002\.h5: the file is damaged"):
        run.table("training", rank=2)
    assert run.changed_ranks == (2,)
    assert len(run.table("training", rank=1)) == 8
    path.write_bytes(content[:1000])
    with pytest.raises(RunFolderError, match=r"rank-002\.h5: the file is damaged"):
        run.table("steps", rank=2)
    assert "rank 2: UNREADABLE" in run.summary()


def test_a_shard_of_another_run_is_refused(copy: RunFolder) -> None:
    with h5py.File(copy.shard(1), "r+") as file:
        file.attrs["run_id"] = np.bytes_(b"another")
    with pytest.raises(RunFolderError, match="belongs to another run"):
        open_run(copy.path).table("steps", rank=1)


def test_an_exchanged_shard_of_the_same_run_is_noticed(copy: RunFolder) -> None:
    shutil.copy(copy.shard(2), copy.shard(1))
    assert open_run(copy.path).changed_ranks == (1,)


def test_what_does_not_exist_is_named_with_what_does(original: Path) -> None:
    run = open_run(original)
    with pytest.raises(RunFolderError, match=r"no table 'proofs'.*steps, training"):
        run.table("proofs", rank=1)
    with pytest.raises(RunFolderError, match=r"no rank 3.*0 to 2"):
        run.table("steps", rank=3)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"run\.h5: the file is missing.*folder of a run"):
        open_run(tmp_path)
    (tmp_path / "run.h5").write_bytes(b"not HDF5 at all")
    with pytest.raises(RunFolderError, match="damaged or not HDF5"):
        open_run(tmp_path)
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(RunFolderError, match="not a run"):
        open_run(tmp_path)


@pytest.mark.parametrize("version", [1, 3])
def test_another_format_is_refused(copy: RunFolder, version: int) -> None:
    with h5py.File(copy.index, "r+") as file:
        file.attrs["format_version"] = version
    with pytest.raises(RunFolderError, match=f"format version {version}, known is 2"):
        open_run(copy.path)


def test_the_summary_tells_what_a_user_wants_to_know_first(original: Path) -> None:
    lines = open_run(original).summary().splitlines()
    assert lines[0] == f"{original}: complete"
    assert "1 owner, 2 trainers, 3 hosts" in lines[2]
    assert any(line.startswith("rank 2: 8 steps") and "loss 2.2500" in line for line in lines)
    assert "clean_accuracy: 0.875" in lines
    assert "wall_s: 12.5 s" in lines
    assert "  epsilon 8 at delta 1e-05" in lines

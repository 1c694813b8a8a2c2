"""Scaling of values before a front: by what, what is refused, and what is said of values cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.job_front import build_base_front
from clicooper_hpc.fronts.value_scaling import ValueScaling, data_doubts, job_scaling
from clicooper_hpc.owner.value_check import check_values

ROWS = np.asarray([[10.25, -2.5], [30.5, 4.0], [50.75, 8.5], [20.0, 1.0]], dtype=np.float32)


def written(path: Path, rows: np.ndarray = ROWS) -> Path:
    with DatasetWriter(path, source="rows", source_kind="npz", overwrite=True) as writer:
        labels = np.arange(len(rows)) % 2
        for split in ("train", "test"):
            writer.append_samples(split, rows, labels)
        writer.finish(("a", "b"))
    return path


def job_of(folder: Path, *overrides: str) -> Job:
    path = folder / "job.toml"
    path.write_text(f'[data]\npath = "{written(folder / "d.h5")}"\n')
    return load_job(path, overrides)


def scaled(job: Job) -> ValueScaling | None:
    with open_dataset(job.data.path) as data:
        return job_scaling(job, data, data.split("train"))


CONSTANTS = 'data.scaling="constants"'


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["data.constants.mean=[20, 1]", "data.constants.deviation=[10, 2]"], ([20, 1], [10, 2])),
        (["data.constants.mean=5", "data.constants.deviation=2"], ([5, 5], [2, 2])),
        (
            ["data.constants.minimum=[0, -10]", "data.constants.maximum=[60, 10]"],
            ([0, -10], [60, 20]),
        ),
    ],
)
def test_constants_are_taken_off_and_divided_by(
    tmp_path: Path, stated: list[str], expected: Sequence[list[float]]
) -> None:
    found = scaled(job_of(tmp_path, CONSTANTS, *stated))
    assert found is not None
    offset, width = (np.asarray(one, dtype=np.float64) for one in expected)
    wanted = ((ROWS.astype(np.float64) - offset) / width).astype(np.float32)
    np.testing.assert_allclose(found.affine.apply(torch.from_numpy(ROWS)), wanted, rtol=1e-6)


def test_nothing_is_scaled_unless_the_job_says_so(tmp_path: Path) -> None:
    assert scaled(job_of(tmp_path)) is None


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (["data.constants.mean=[1, 2, 3]", "data.constants.deviation=1"], "has 3 numbers"),
        (["data.constants.mean=1", "data.constants.deviation=[1, 0]"], "not above 0"),
        (["data.constants.minimum=2", "data.constants.maximum=1"], "not above the minimum"),
        (["data.constants.mean=1e39", "data.constants.deviation=1"], "float32 cannot hold"),
        (["data.constants.mean=0", "data.constants.deviation=1e-45"], "float32 cannot hold"),
        (["data.constants.mean.a=1", "data.constants.deviation=1"], "has no names"),
    ],
)
def test_constants_that_fit_no_feature_are_refused(
    tmp_path: Path, stated: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        scaled(job_of(tmp_path, CONSTANTS, *stated))


def test_public_statistics_are_those_of_the_public_rows(tmp_path: Path) -> None:
    public = np.random.default_rng(1).normal((3, -1), (2, 0.5), (50, 2)).astype(np.float32)
    path = written(tmp_path / "public.h5", public)
    job = job_of(tmp_path, 'data.scaling="public"', f'front.public_data="{path}"')
    found = scaled(job)
    assert found is not None
    made = found.affine.apply(torch.from_numpy(public)).numpy()
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(made.std(axis=0), 1, rtol=1e-5)
    narrow = written(tmp_path / "narrow.h5", public[:, :1])
    with pytest.raises(DataError, match="other features"):
        scaled(job_of(tmp_path, 'data.scaling="public"', f'front.public_data="{narrow}"'))


def test_constants_copied_from_the_private_rows_are_told(tmp_path: Path) -> None:
    def doubts(*stated: str) -> tuple[str, ...]:
        job = job_of(tmp_path, CONSTANTS, *stated)
        with open_dataset(job.data.path) as data:
            return data_doubts(job, data)

    mean, deviation = ROWS.mean(axis=0, dtype=np.float64), ROWS.std(axis=0, dtype=np.float64)
    own = [f"data.constants.mean={mean.tolist()}", f"data.constants.deviation={deviation.tolist()}"]
    assert "are those of the training rows" in doubts(*own)[0]
    assert doubts("data.constants.mean=[28, 3]", "data.constants.deviation=[15, 4]") == ()


@pytest.mark.parametrize(
    "value", ["inf", "true", "[1, nan]", "[true, 1]", "{a = inf}", "{a = true}"]
)
def test_constants_are_finite_numbers(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=r"data\.constants\.mean"):
        job_of(tmp_path, CONSTANTS, f"data.constants.mean={value}", "data.constants.deviation=1")


@pytest.mark.parametrize(
    ("overrides", "cut", "words"),
    [
        ((), True, "87.5 % of the numbers of 4 training samples looked at lie outside"),
        (
            (CONSTANTS, "data.constants.minimum=-5", "data.constants.maximum=60"),
            False,
            "all scaled numbers of 4",
        ),
    ],
)
def test_what_is_cut_is_said(
    tmp_path: Path, overrides: tuple[str, ...], cut: bool, words: str
) -> None:
    job = job_of(tmp_path, *overrides)
    with open_dataset(job.data.path) as data:
        train = data.split("train")
        remarks = check_values(job, data, train, build_base_front(job, data, train))
    assert [one.cut for one in remarks if one.text.startswith("values")] == [cut]
    assert any(words in one.text for one in remarks)


def test_damaged_statistics_are_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "d.h5")
    with h5py.File(path, "r+") as file:
        file["features/mean"][0] = np.nan
    with pytest.raises(DataError, match=r"features/mean: holds a value that is not finite"):
        open_dataset(path)

"""Counts by true and predicted class: what follows from them, and the file that keeps them."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from report_example import written_run

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.confusion import ConfusionMatrix, count_confusions
from clicooper_hpc.runstore.confusion_file import (
    CONFUSION_FILE,
    read_class_figures,
    write_class_figures,
)
from clicooper_hpc.runstore.reader import Run, open_run

NAMES = ("cat", "große Katze", "none")
#: 400 samples, 350 right, as `written_run` says; of the third class there is none.
COUNTS = np.array([[250, 10, 0], [40, 100, 0], [0, 0, 0]])


def test_figures_follow_from_the_counts() -> None:
    matrix = ConfusionMatrix(COUNTS)
    assert (matrix.samples, matrix.right) == (400, 350)
    assert matrix.recalls == pytest.approx([250 / 260, 100 / 140, np.nan], nan_ok=True)
    assert matrix.precisions == pytest.approx([250 / 290, 100 / 110, np.nan], nan_ok=True)
    assert matrix.balanced_accuracy == pytest.approx((250 / 260 + 100 / 140) / 2)
    assert (matrix.majority_share, matrix.chance) == (260 / 400, 1 / 3)
    assert matrix.worst_confusions(5) == [(1, 0, 40), (0, 1, 10)]
    assert matrix.worst_confusions(1) == [(1, 0, 40)]
    empty = ConfusionMatrix(np.zeros((2, 2), np.int64))
    assert np.isnan([empty.balanced_accuracy, empty.majority_share]).all()


def test_samples_are_counted_by_true_and_predicted_class() -> None:
    predicted, true = np.array([0, 2, 2, 1, 2]), np.array([0, 1, 1, 2, 2])
    counts = count_confusions(predicted, true, 4).counts
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 0, 0, 0], [0, 0, 2, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run whose owner keeps counts by class."""
    found = open_run(written_run(tmp_path / "run"))
    found.folder.private.mkdir(mode=0o700)
    write(found)
    return found


def write(run: Run, counts: np.ndarray = COUNTS) -> None:
    path = run.folder.private / CONFUSION_FILE
    write_class_figures(path, NAMES, ConfusionMatrix(counts), run_id=str(run.attrs["run_id"]))


def test_the_file_is_the_owner_s_and_reads_back(run: Run) -> None:
    path = run.folder.private / CONFUSION_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = read_class_figures(run)
    assert found is not None
    assert found.class_names == NAMES
    assert found.confusion.counts.tolist() == COUNTS.tolist()
    # For programs of others: named dimensions, letters that netCDF knows, figures beside counts.
    with h5py.File(path) as file:
        counts = file["confusion"]
        assert (counts.dtype, counts.shape) == (np.int64, (3, 3))
        assert [one[0].name for one in counts.dims] == ["/true_class", "/predicted_class"]
        assert file["class_names"].dtype == "S1"
        assert file["recall"][:2] == pytest.approx([250 / 260, 100 / 140])
        assert file["majority_share"][()] == 0.65
        texts = [one for one in file.values() if one.dtype.kind in "OU"]
        assert texts == []


def test_nothing_is_there_for_whoever_has_no_private_folder(run: Run) -> None:
    (run.folder.private / CONFUSION_FILE).unlink()
    assert read_class_figures(run) is None
    run.folder.private.rmdir()
    assert read_class_figures(run) is None


def test_counts_of_other_results_or_another_run_are_refused(run: Run) -> None:
    for other in (
        replace(run, attrs={**run.attrs, "run_id": "0" * 32}),
        replace(run, results={**run.results, "clean_samples": 401}),
        replace(run, results={**run.results, "clean_accuracy": 349 / 400}),
        replace(run, results={**run.results, "clean_accuracy": "most"}),
    ):
        with pytest.raises(RunFolderError, match="another run or of other results"):
            read_class_figures(other)
    # Of a run that is not at its end yet there is nothing to compare with.
    assert read_class_figures(replace(run, results={})) is not None


def test_what_is_no_such_file_is_refused(run: Run) -> None:
    path = run.folder.private / CONFUSION_FILE
    damages: list[tuple[Callable[[Any], object], str]] = [
        (lambda file: file["confusion"].write_direct(np.full((3, 3), -1)), "confusion"),
        (lambda file: file.__delitem__("class_names"), "class_names"),
        (lambda file: file["class_names"].write_direct(np.full((3, 12), b"\xff", "S1")), "UTF-8"),
        (lambda file: file.attrs.modify("format_version", 2), "format version 2"),
        (lambda file: file.attrs.__setitem__("format", np.bytes_("x")), "holds no counts by class"),
    ]
    for damage, words in damages:
        write(run)
        with h5py.File(path, "r+") as file:
            damage(file)
        with pytest.raises(RunFolderError, match=words):
            read_class_figures(run)
    path.write_bytes(b"nothing")
    with pytest.raises(RunFolderError):
        read_class_figures(run)
    path.unlink()
    path.symlink_to(run.folder.index)
    with pytest.raises(RunFolderError):
        read_class_figures(run)

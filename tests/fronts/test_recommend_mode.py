"""`clicooper plan --recommend` against what releases of the same job reach on private rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from private_lda_cases import CLASSES, TRAIN, private_lda_job

from clicooper_hpc.cli import main
from clicooper_hpc.commands.plan_modes import recommend_mode
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import UsageError
from clicooper_hpc.owner.recommend_mode import forecast_modes
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.runstore.private_folder import PrivateFolder

JOB = """
[data]
path = "private.h5"
[front]
kind = "identity"
projection = "pca"
dim = 20
whiten = 0.5
public_data = "public.h5"
normalise = true
[privacy]
epsilon = 8.0
mode = "reproducible-INSECURE"
seed = 5
[release]
mode = "gradients"
rounds = 5
[labels]
expansion = 1
[model]
options = { stem = [16], widths = [] }
"""


def job_of(folder: Path, *overrides: str) -> Job:
    return private_lda_job(folder, *overrides, text=JOB)


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
def test_the_range_holds_what_the_release_reaches(tmp_path: Path, epsilon: float) -> None:
    job = job_of(tmp_path, f"privacy.epsilon={epsilon}")
    found = forecast_modes(job, samples=TRAIN, classes=CLASSES)
    made = set_up_release(job, PrivateFolder(tmp_path / "owner"))
    baselines = made.held_out.baselines
    assert baselines is not None
    assert baselines.gradients is not None
    parts = list(made.held_out.clean_batches())
    rows = torch.cat([part for part, _ in parts])
    classes = np.concatenate([labels for _, labels in parts])
    named = baselines.gradients.class_probabilities(rows.double().numpy()).argmax(axis=1)
    reached = float((named == classes).mean())
    (forecast,) = [one for one in found.forecasts if one.way.mode == "gradients"]
    # 200 held-out samples: three standard errors.
    margin = 3 * (0.25 / len(classes)) ** 0.5
    assert min(forecast.accuracies) - margin <= reached <= max(forecast.accuracies) + margin


def test_no_private_row_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    read, seen = Split.read, set()

    def noting(self: Split, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        seen.add(len(self))
        return read(self, ids)

    monkeypatch.setattr(Split, "read", noting)
    first = forecast_modes(job, samples=TRAIN, classes=CLASSES)
    # Of the public set, training and test rows; the private splits have 1,200 and 200.
    assert seen == {800, 70}
    assert (first.rows, first.held_out, first.numbers) == (800, 70, 20)
    again = forecast_modes(job, samples=TRAIN, classes=CLASSES)
    assert again.forecasts == first.forecasts


def test_the_command_says_what_it_is_a_forecast_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job_of(tmp_path)
    assert main(["plan", str(tmp_path / "job.toml"), "--ranks", "2", "--recommend"]) == 0
    text = capsys.readouterr().out
    assert f"FORECAST of accuracy by release mode, for {TRAIN} samples of {CLASSES}" in text
    assert "epsilon 8, delta 1e-05 per sample, replace-one" in text
    assert "without a private row" in text
    assert "recommended, without promise: " in text
    assert 'the job has "gradients"' in text
    ways = ("rows (20 numbers", 'rows (projection "private-lda", 40 %', "sums\n", "moments\n")
    for way in (*ways, "gradients (5 rounds)\n"):
        assert f"%  {way}" in text, way


def test_parts_of_public_classes_are_no_ground_for_a_recommendation(tmp_path: Path) -> None:
    """In whole runs on 100 classes the order of modes was another than that of parts of ten."""
    job = job_of(tmp_path)
    (tmp_path / "private.h5").rename(tmp_path / "private4.h5")
    (tmp_path / "public.h5").rename(tmp_path / "private.h5")
    (tmp_path / "private4.h5").rename(tmp_path / "public.h5")
    text = recommend_mode(job)
    assert "NO RECOMMENDATION: 4 public classes, in parts, stand in for 7" in text
    assert "recommended" not in text


def test_an_epsilon_too_small_for_rounds_is_said(tmp_path: Path) -> None:
    text = recommend_mode(job_of(tmp_path, "privacy.epsilon=0.01", "release.rounds=20"))
    assert "no forecast of gradients" in text
    assert "%  moments" in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    bare = ('front.projection="none"', 'release.mode="rows"', "release.rounds=20")
    job = job_of(tmp_path, *bare)
    without = job.front.model_copy(update={"public_data": None})
    made_of_private = job.front.model_copy(update={"kind": "dp-sgd"})
    for update, message in (
        ({"front": without}, "compared on public rows, and the job names none"),
        ({"front": made_of_private}, "is trained on private samples"),
        (
            {"privacy": job.privacy.model_copy(update={"unit": "element"})},
            "under one promise to whole samples, and the job makes none",
        ),
        (
            {"privacy": job.privacy.model_copy(update={"enabled": False})},
            "under one promise to whole samples, and the job makes none",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            forecast_modes(job.model_copy(update=update), samples=TRAIN, classes=CLASSES)

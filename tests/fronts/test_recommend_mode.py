"""`clicooper plan --recommend` against what releases of the same job reach on private rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from private_lda_cases import CLASSES, TRAIN, private_lda_job

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
mode = "moments"
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
    assert baselines.moments is not None
    parts = list(made.held_out.clean_batches())
    rows = np.concatenate([part.numpy() for part, _ in parts])
    classes = np.concatenate([labels for _, labels in parts])
    reached = {
        "moments": baselines.moments.class_probabilities(rows.astype(np.float64)).argmax(axis=1),
        "sums": baselines.class_sums.apply(parts[0][0].new_tensor(rows)).argmax(dim=1).numpy(),
    }
    for one in found.forecasts:
        if one.mode in reached:
            accuracy = float((reached[one.mode] == classes).mean())
            # 200 held-out samples: three standard errors.
            margin = 3 * (0.25 / len(classes)) ** 0.5
            assert min(one.accuracies) - margin <= accuracy <= max(one.accuracies) + margin


def test_no_private_row_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    read, seen = Split.read, set()

    def noting(self: Split, ids: np.ndarray) -> np.ndarray:
        seen.add(len(self))
        return read(self, ids)

    monkeypatch.setattr(Split, "read", noting)
    text = recommend_mode(job)
    monkeypatch.undo()
    # The public set has 800 samples, the private splits 1,200 and 200.
    assert seen == {800}
    assert f"forecast for {TRAIN} samples of {CLASSES} classes, epsilon 8" in text
    assert "no private row was read" in text
    assert "per sample, replace-one" in text
    assert 'recommended: release.mode = "' in text
    assert 'the job has "moments". A forecast, no promise' in text
    for mode in ("rows:", "rows (class scores", "sums:", "moments:"):
        assert mode in text, mode


def test_a_job_without_public_data_has_nothing_to_compare_on(tmp_path: Path) -> None:
    job = job_of(
        tmp_path,
        'front.projection="none"',
        'release.mode="rows"',
    )
    bare = job.model_copy(
        update={"front": job.front.model_copy(update={"public_data": None, "dim": None})}
    )
    with pytest.raises(UsageError, match=r"compared on public rows, and the job names none"):
        forecast_modes(bare, samples=TRAIN, classes=CLASSES)

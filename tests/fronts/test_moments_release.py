"""A release of moments: what leaves, what it costs, and that it is the same every time."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from private_lda_cases import CLASSES, TRAIN, private_lda_job

from clicooper_hpc.commands.plan_report import plan_report
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.errors import BudgetExceededError, RunFolderError, UsageError
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.privacy.receipts import ReleaseChangedError
from clicooper_hpc.runstore.private_folder import PrivateFolder

PUBLIC = 800
JOB = """
[data]
path = "private.h5"
[front]
kind = "identity"
projection = "pca"
dim = 20
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


def set_up(folder: Path, *overrides: str, name: str = "private") -> ReleaseSetup:
    return set_up_release(job_of(folder, *overrides), PrivateFolder(folder / name))


def ids(count: int = PUBLIC) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def test_what_leaves_are_public_rows_recoloured_and_nothing_of_a_sample(tmp_path: Path) -> None:
    made = set_up(tmp_path)
    assert made.contract.samples == len(made.sub_labels) == PUBLIC
    assert made.contract.validation_samples == 0
    rows, new = made.gate.release("train", ids())
    assert new == PUBLIC
    with open_dataset(tmp_path / "public.h5") as data:
        public = made.front.apply(data.split("train").read(ids()))
    # An affine map of the public rows, all of it: 20 directions and a shift explain every number.
    known = np.concatenate([public, np.ones((PUBLIC, 1), np.float32)], axis=1).astype(np.float64)
    rest = rows.numpy() - known @ np.linalg.lstsq(known, rows.numpy(), rcond=None)[0]
    assert np.abs(rest).max() < 1e-5
    private = made.front.apply(made.samples.splits["train"].read(ids(TRAIN)))
    assert {row.tobytes() for row in private}.isdisjoint({row.tobytes() for row in rows.numpy()})


def test_the_names_say_what_the_private_labels_say(tmp_path: Path) -> None:
    """Classes of the public set are seven others, and play no part in the names."""
    made = set_up(tmp_path, "privacy.epsilon=100.0")
    assert made.held_out.baselines is not None
    assert made.held_out.baselines.moments is not None
    assert made.label_map.num_sub_labels == CLASSES
    rows = np.concatenate([part.numpy() for part, _ in made.held_out.clean_batches()])
    classes = np.concatenate([labels for _, labels in made.held_out.clean_batches()])
    found = made.held_out.baselines.moments.class_probabilities(rows.astype(np.float64)).argmax(
        axis=1
    )
    assert float((found == classes).mean()) > 0.6


def test_every_sample_pays_once_and_labels_and_rows_are_paid_with_it(tmp_path: Path) -> None:
    made = set_up(tmp_path)
    assert not made.gate.ledger.entries
    made.gate.release_sub_labels()
    made.gate.release("train", ids(10))
    made.gate.release("train", ids())
    kinds = {entry.kind: entry for entry in made.gate.ledger.entries}
    assert set(kinds) == {"training-release", "labels"}
    assert kinds["training-release"].samples == TRAIN
    assert "moments" in kinds["training-release"].mechanism
    epsilon, delta = made.gate.ledger.spent_epsilon(1e-5, "sample", "replace-one")
    assert epsilon == pytest.approx(8.0, rel=1e-6)
    assert delta == 1e-5


def test_the_card_says_what_was_released(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    text = make_run_card(job, set_up(tmp_path)).text()
    assert "epsilon 8, delta 1e-05 per sample (unit sample, replace-one)" in text
    assert re.search(r"add-remove +epsilon 5\.(29|30)\d*, delta 1e-05 per sample", text)
    assert f"class sums, second moment and class sizes of {TRAIN} samples" in text
    assert f"no row of a sample; {PUBLIC} public rows" in text
    assert "from a released row" not in text
    assert "no differential privacy of labels" not in text
    off = make_run_card(
        job_of(tmp_path, "privacy.enabled=false"),
        set_up(tmp_path, "privacy.enabled=false", name="off"),
    ).text()
    assert f"class sizes of {TRAIN} samples leave the owner without noise" in off


@pytest.mark.parametrize("mode", ["sums", "moments"])
def test_a_restart_releases_the_same_bits_without_noising_again(tmp_path: Path, mode: str) -> None:
    wanted = f"release.mode={mode}"
    first = set_up(tmp_path, wanted)
    rows, _ = first.gate.release("train", ids())
    first.gate.release_sub_labels()
    first.gate.keep_receipts()
    again = set_up(tmp_path, wanted)
    assert np.array_equal(again.sub_labels, first.sub_labels)
    same, new = again.gate.release("train", ids())
    assert new == 0
    assert np.array_equal(same.numpy(), rows.numpy())
    assert len(again.gate.ledger.entries) == 2
    # The rows are kept: nothing is asked of the public data any more.
    (tmp_path / "public.h5").rename(tmp_path / "elsewhere.h5")
    kept, new = set_up(tmp_path, wanted).gate.release("train", ids())
    assert new == 0
    assert np.array_equal(kept.numpy(), rows.numpy())
    (tmp_path / "elsewhere.h5").rename(tmp_path / "public.h5")
    # Even without what was made of the moments: the noise is keyed, so it is the same noise.
    (tmp_path / "private" / "moments.safetensors").unlink()
    anew, new = set_up(tmp_path, wanted).gate.release("train", ids())
    assert new == 0
    assert np.array_equal(anew.numpy(), rows.numpy())


def test_other_data_are_refused_after_a_release(tmp_path: Path) -> None:
    first = set_up(tmp_path)
    first.gate.release("train", ids())
    first.gate.keep_receipts()
    with pytest.raises(ReleaseChangedError, match="made of other data"):
        set_up(tmp_path, f"data.train_rows={TRAIN - 1}")
    with pytest.raises(ReleaseChangedError, match="made of other data"):
        set_up(tmp_path, "privacy.epsilon=4.0")
    with pytest.raises(ReleaseChangedError, match="made of other data"):
        set_up(tmp_path, "release.mode=sums")


def test_a_damaged_file_of_the_moments_is_named(tmp_path: Path) -> None:
    set_up(tmp_path)
    path = tmp_path / "private" / "moments.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunFolderError, match=re.escape(str(path))):
        set_up(tmp_path)


def test_a_budget_below_the_release_stops_before_anything_is_summed(tmp_path: Path) -> None:
    with pytest.raises(BudgetExceededError):
        set_up(tmp_path, "privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5")
    assert not (tmp_path / "private" / "moments.safetensors").exists()


def test_mixes_and_sharper_names_are_for_more_rows_of_the_same_moments(tmp_path: Path) -> None:
    plain = set_up(tmp_path, name="plain")
    made = set_up(tmp_path, "release.mixes=2", "release.sharpness=4.0")
    assert made.contract.samples == len(made.sub_labels) == 3 * PUBLIC
    rows, new = made.gate.release("train", ids(3 * PUBLIC))
    assert new == 3 * PUBLIC
    one, mixed = rows.numpy()[:PUBLIC], rows.numpy()[PUBLIC:]
    assert np.array_equal(one, plain.gate.release("train", ids())[0].numpy())
    assert np.allclose(one.mean(axis=0), mixed.mean(axis=0), atol=0.02)
    off = np.linalg.norm(np.cov(one.T) - np.cov(mixed.T)) / np.linalg.norm(np.cov(one.T))
    assert off < 0.1
    assert len(np.unique(rows.numpy(), axis=0)) == 3 * PUBLIC
    model = made.held_out.baselines
    assert model is not None
    assert model.moments is not None
    # Surer names are those the model thinks likeliest, more often.
    best = model.moments.class_probabilities(one.astype(np.float64)).argmax(axis=1)
    sure = np.mean(made.label_map.map_to_classes(made.sub_labels[:PUBLIC]) == best)
    unsure = np.mean(plain.label_map.map_to_classes(plain.sub_labels) == best)
    assert sure > unsure + 0.1
    report = plan_report(job_of(tmp_path, "release.mixes=2"), ranks=3)
    assert f"{3 * PUBLIC} public rows (3 for each: 2 are mixes of two)" in report


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("front.projection=none", 'needs front.projection = "pca", not "none"'),
        ("front.normalise=false", "needs front.normalise = true"),
        ("privacy.clip=2.0", "needs privacy.clip = 1.0, not 2.0"),
        ("privacy.unit=element", 'needs privacy.unit = "sample"'),
        ("privacy.relation=zero-out", 'needs privacy.relation = "replace-one"'),
        ("labels.expansion=4", "needs labels.expansion = 1, not 4"),
        ("labels.randomized_response_epsilon=1.0", "randomized_response_epsilon = no value"),
        ("data.validation_rows=10", "needs data.validation_rows = 0, not 10"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path: Path, override: str, message: str) -> None:
    for mode in ("moments", "sums"):
        with pytest.raises(UsageError, match=re.escape(message)):
            job_of(tmp_path, f"release.mode={mode}", override)


@pytest.mark.parametrize("override", ["release.mixes=1", "release.sharpness=2.0"])
def test_rows_of_samples_are_neither_mixed_nor_sharpened(tmp_path: Path, override: str) -> None:
    rows = "release.mode=rows"
    job_of(tmp_path, rows, "release.mixes=0", "release.sharpness=1.0")
    with pytest.raises(UsageError, match=re.escape("needs a release.mode that sums up")):
        job_of(tmp_path, rows, override)


def test_class_sums_alone_are_noised_once_and_name_the_rows(tmp_path: Path) -> None:
    job = job_of(tmp_path, "release.mode=sums")
    made = set_up(tmp_path, "release.mode=sums")
    baselines = made.held_out.baselines
    assert baselines is not None
    assert baselines.moments is None
    with open_dataset(tmp_path / "public.h5") as data:
        public = made.front.apply(data.split("train").read(ids()))
    rows, _ = made.gate.release("train", ids())
    # Of the private rows' moments the mean alone is given to the public rows: all move alike.
    assert np.abs(np.ptp(rows.numpy() - public, axis=0)).max() < 1e-5
    private = made.front.apply(made.samples.splits["train"].read(ids(TRAIN)))
    # Per number sigma / n times the root of the number of classes.
    assert made.spec is not None
    error = made.spec.sigma * math.sqrt(CLASSES) / TRAIN
    assert np.abs(rows.numpy().mean(axis=0) - private.mean(axis=0)).max() < 5 * error
    best = baselines.class_sums.apply(rows).argmax(dim=1).numpy()
    named = made.label_map.map_to_classes(made.sub_labels)
    assert float((named == best).mean()) > 1.5 / CLASSES
    made.gate.release_sub_labels()
    (rows_event,) = [one for one in made.gate.ledger.entries if one.kind == "training-release"]
    assert rows_event.mechanism.startswith("class sums, rounded Gaussian")
    assert made.gate.ledger.spent_epsilon(1e-5, "sample", "replace-one")[0] == pytest.approx(8.0)
    text = make_run_card(job, made).text()
    assert f"1 in all: class sums of {TRAIN} samples; no row of a sample" in text
    # Half the distance of a replaced sample, so about half the epsilon: less than for all moments.
    assert re.search(r"add-remove +epsilon 3\.5\d*, delta 1e-05 per sample", text)
    assert "add-remove: epsilon 3.5" in plan_report(job, ranks=3)


def test_class_sums_and_moments_have_noise_of_their_own(tmp_path: Path) -> None:
    """The same key and the same noise would show the difference of what is below it."""
    first = set_up(tmp_path, "release.mode=sums", name="sums")
    second = set_up(tmp_path, name="moments")
    means = []
    for made in (first, second):
        assert made.spec is not None
        rows, _ = made.gate.release("train", ids())
        private = made.front.apply(made.samples.splits["train"].read(ids(TRAIN)))
        means.append(rows.numpy().mean(axis=0) - private.mean(axis=0))
    assert np.linalg.norm(means[0] - means[1]) > 0.5 * np.linalg.norm(means[0])
    assert abs(np.corrcoef(means)[0, 1]) < 0.7


def test_plan_says_the_same_as_the_run(tmp_path: Path) -> None:
    report = plan_report(job_of(tmp_path), ranks=3)
    made = set_up(tmp_path)
    assert made.spec is not None
    assert f"data private.h5: {TRAIN} training samples" in report.replace(f"{tmp_path}/", "")
    assert f"class sizes of {TRAIN} samples: sensitivity 2, sigma {made.spec.sigma:.6g}" in report
    assert f"{PUBLIC} public rows, recoloured and named by them" in report
    assert "add-remove: epsilon 5.29" in report
    steps = math.ceil(PUBLIC / job_of(tmp_path).training.batch_size)
    assert f"{steps * job_of(tmp_path).training.epochs} steps" in report

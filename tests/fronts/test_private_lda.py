"""A projection paid with samples: who pays, what is released, and that it finds the classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from private_lda_cases import CLASSES, TRAIN, WIDTH, draw, private_lda_job

from clicooper_hpc.commands.plan_report import plan_report
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import BudgetExceededError, UsageError
from clicooper_hpc.fronts.build_front import FrontBase, ProjectionData, build_front
from clicooper_hpc.fronts.front import Front, assemble_front, restore_front
from clicooper_hpc.fronts.job_front import outline_job_front
from clicooper_hpc.fronts.private_lda import private_lda_means
from clicooper_hpc.fronts.projection import (
    Projection,
    PublicRows,
    fit_projection,
)
from clicooper_hpc.owner.release_setup import ReleaseSetup, set_up_release
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.training.batches import count_batches

SET_ASIDE = 220  # a fifth of the 1,100 training samples that are not held back for validation
RELEASED = TRAIN - 100 - SET_ASIDE


def set_up(folder: Path, job: Job, name: str = "private") -> ReleaseSetup:
    return set_up_release(job, PrivateFolder(folder / name))


def all_ids(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64)


def found(front: Front, train: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """Accuracy of nearest class means on fresh rows."""
    rows, (fresh, wanted) = front.apply(train), draw(400, 1)
    means = np.stack([rows[classes == k].mean(axis=0) for k in range(CLASSES)])
    apart = ((front.apply(fresh)[:, np.newaxis] - means) ** 2).sum(axis=2)
    return float((apart.argmin(axis=1) == wanted).mean())


def test_every_sample_is_set_aside_or_released_and_none_is_both(tmp_path: Path) -> None:
    job = private_lda_job(tmp_path)
    made = set_up(tmp_path, job)
    set_aside, train = made.samples.set_aside, made.samples.splits["train"]
    assert set_aside is not None
    assert (len(set_aside), len(train)) == (SET_ASIDE, RELEASED)
    assert made.contract.samples == len(made.sub_labels) == RELEASED
    keys = [
        {row.tobytes() for row in split.read(all_ids(len(split)))}
        for split in (set_aside, train, made.samples.splits["validation"])
    ]
    assert [len(part) for part in keys] == [SET_ASIDE, RELEASED, 100]
    # As many different rows as samples, so no sample is in two of the three.
    assert keys[0] | keys[1] | keys[2] == {row.tobytes() for row in draw(TRAIN, 0)[0]}


def test_rows_that_leave_are_those_of_released_samples_alone(tmp_path: Path) -> None:
    """Without noise a row is its sample's, so the row of a sample set aside would be recognised."""
    job = private_lda_job(tmp_path, "privacy.enabled=false")
    made = set_up(tmp_path, job)
    set_aside, train = made.samples.set_aside, made.samples.splits["train"]
    assert set_aside is not None
    left, new = made.gate.release("train", all_ids(RELEASED))
    assert new == RELEASED
    assert np.array_equal(left.numpy(), made.front.apply(train.read(all_ids(RELEASED))))
    hidden = {row.tobytes() for row in made.front.apply(set_aside.read(all_ids(SET_ASIDE)))}
    assert hidden.isdisjoint({row.tobytes() for row in left.numpy()})
    with pytest.raises(ValueError, match="leave the 880 samples"):
        made.gate.release("train", all_ids(RELEASED + 1))


@pytest.mark.parametrize("relation", ["replace-one", "zero-out"])
def test_each_sample_pays_once_and_a_budget_of_one_release_is_enough(
    tmp_path: Path, relation: str
) -> None:
    budget = ["privacy.budget_epsilon=8.0", "privacy.budget_delta=1e-5"]
    job = private_lda_job(tmp_path, f'privacy.relation="{relation}"', *budget)
    made = set_up(tmp_path, job)
    made.gate.release_sub_labels()
    made.gate.release("train", all_ids(10))
    made.gate.release("validation", all_ids(10))
    entries = {(e.split, e.kind): e for e in made.gate.ledger.entries}
    assert set(entries) == {
        ("spent", "class-sums"),
        ("train", "labels"),
        ("train", "training-release"),
        ("validation", "validation-release"),
    }
    sums, release = entries["spent", "class-sums"], entries["train", "training-release"]
    assert (sums.samples, release.samples) == (SET_ASIDE, RELEASED)
    assert sums.charge is not None
    assert release.charge is not None
    assert sums.charge.mu == pytest.approx(release.charge.mu)
    spent = made.gate.ledger.spent_epsilon(1e-5, relation=job.privacy.relation)
    assert 7.999 < spent[0] <= 8.0
    # A restart finds the charge and does not make it again.
    again = set_up(tmp_path, job)
    assert again.gate.ledger.entries == made.gate.ledger.entries


def test_a_budget_below_the_sums_stops_before_anything_is_prepared_to_leave(
    tmp_path: Path,
) -> None:
    budget = ["privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5"]
    with pytest.raises(BudgetExceededError, match="class sums") as caught:
        set_up(tmp_path, private_lda_job(tmp_path, *budget))
    assert "split 'spent'" in caught.value.line()
    assert not (tmp_path / "private" / "ledger.json").exists()


def test_two_starts_from_one_key_make_the_same_front_and_rows(tmp_path: Path) -> None:
    """The second one has lost the stored front: it must not draw other noise."""
    job = private_lda_job(tmp_path, 'privacy.mode="secure"')
    first = set_up(tmp_path, job)
    PrivateFolder(tmp_path / "again").write_secret(
        "master.key", (tmp_path / "private" / "master.key").read_bytes()
    )
    second, stranger = set_up(tmp_path, job, "again"), set_up(tmp_path, job, "other")
    stored = set_up(tmp_path, job)
    assert first.front.digest == second.front.digest == stored.front.digest
    assert first.front.digest != stranger.front.digest
    rows = [one.gate.release("train", all_ids(50))[0].numpy() for one in (first, second)]
    assert np.array_equal(rows[0], rows[1])
    assert stored.front.origin == first.front.origin


def test_a_stored_front_keeps_who_paid(tmp_path: Path) -> None:
    for setting in ("privacy.enabled=true", "privacy.enabled=false"):
        front = set_up(tmp_path, private_lda_job(tmp_path, setting), setting[-4:]).front
        again = restore_front(front.front_settings(), front.front_tensors())
        assert again.origin == front.origin
        assert again.origin.class_sums is not None
        assert again.origin.class_sums.samples == SET_ASIDE


@pytest.mark.parametrize(("setting", "least"), [("false", 0.9), ("true", 0.8)])
def test_the_projection_finds_classes_that_public_directions_hide(
    tmp_path: Path, setting: str, least: float
) -> None:
    front = set_up(tmp_path, private_lda_job(tmp_path, f"privacy.enabled={setting}")).front
    train, classes = draw(TRAIN, 0)
    public = PublicRows(*draw(800, 2, classes=7), digest_bytes("t", b"public"), "public")
    pca = build_front(
        FrontBase(kind="identity", input_shape=(WIDTH,)),
        projection=ProjectionData(Projection("pca", CLASSES - 1), public),
        normalise=1.0,
    )
    assert front.output_shape == (CLASSES,)
    assert found(pca, train, classes) < 0.5
    assert found(front, train, classes) > least
    rows = front.apply(train)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert front.non_negative
    assert rows.min() >= 0


def test_randomised_labels_are_what_the_sums_are_made_of(tmp_path: Path) -> None:
    """Where answers are nearly all true the means are the true ones, else they lie elsewhere."""
    job = private_lda_job(tmp_path, "privacy.enabled=false")
    made = set_up(tmp_path, job)
    operations, set_aside = made.front.operations[:3], made.samples.set_aside
    assert set_aside is not None
    before = assemble_front((WIDTH,), operations, made.front.origin)
    key = MasterKey.from_seed(1)

    def centred(response_epsilon: float | None) -> NDArray[np.float64]:
        means = private_lda_means(
            before, set_aside, CLASSES, job.privacy, key, response_epsilon=response_epsilon
        ).means
        return np.asarray(means - means.mean(axis=0))

    true = centred(None)
    assert np.array_equal(centred(40.0), true)
    assert abs((centred(0.001) * true).sum() / (true * true).sum()) < 0.5
    assert (true * true).sum() > 0.1


def test_means_are_divided_by_a_constant_and_noise_is_what_the_card_says(tmp_path: Path) -> None:
    """The discriminant's offset is the mean of the class means: sums / (set aside / K), over K."""
    offsets = {}
    sigma = 0.0
    for setting in ("true", "false"):
        made = set_up(tmp_path, private_lda_job(tmp_path, f"privacy.enabled={setting}"), setting)
        set_aside, operations = made.samples.set_aside, made.front.operations
        assert set_aside is not None
        assert len(operations) == 5  # identity, PCA, norm 1, class scores, norm C
        before = assemble_front((WIDTH,), operations[:3], made.front.origin)
        rows = before.apply(set_aside.read(all_ids(SET_ASIDE))).astype(np.float64)
        cost = made.front.origin.class_sums
        assert cost is not None
        sigma = max(sigma, 0.0 if cost.spec is None else cost.spec.sigma)
        offsets[setting] = (operations[3].operation_tensors()["offset"].numpy(), rows.mean(axis=0))
    assert np.allclose(*offsets["false"], atol=1e-6)
    got, want = offsets["true"]
    # K sums with noise sigma each, divided by samples set aside / K and averaged over K classes.
    expected = sigma * math.sqrt(CLASSES) / SET_ASIDE
    assert 0.4 * expected < (got - want).std() < 2.0 * expected


def test_the_card_names_projection_samples_and_price(tmp_path: Path) -> None:
    job = private_lda_job(tmp_path)
    made = set_up(tmp_path, job)
    card = make_run_card(job, made)
    text = next(line for line in card.lines() if line.startswith("front "))
    assert card.front.kind == "class-sums"
    assert f"noised class sums of {SET_ASIDE} training samples, never released" in text
    assert "epsilon 8, delta 1e-05 for each (replace-one; add-remove epsilon 3.5471" in text
    assert "of public" in text
    assert "CONDITIONAL" not in card.text()
    assert card.sample_total()[0] == pytest.approx(8.0)
    off = private_lda_job(tmp_path, "privacy.enabled=false")
    words = make_run_card(off, set_up(tmp_path, off, "off")).text()
    assert "exact class sums" in words
    assert "without noise, no guarantee" in words
    assert "noised class sums" not in words


def test_a_projection_fitted_on_the_private_data_is_still_conditional(tmp_path: Path) -> None:
    job = private_lda_job(tmp_path, f'front.public_data="{tmp_path / "private.h5"}"')
    made = set_up(tmp_path, job)
    assert made.front.origin.conditional
    assert "CONDITIONAL" in make_run_card(job, made).text()


def test_a_plan_counts_what_the_run_will_release(tmp_path: Path) -> None:
    job = private_lda_job(tmp_path, "pipeline.segments=2", "training.batch_size=16")
    text = plan_report(job, ranks=3)
    assert f"{RELEASED} training samples" in text
    assert f"{SET_ASIDE} more training samples are spent on its class sums" in text
    made = set_up(tmp_path, job)
    with open_dataset(job.data.path) as data:
        outline = outline_job_front(job, data, made.samples.splits["train"])
    assert outline == (made.front.output_shape, made.front.non_negative)
    off = private_lda_job(
        tmp_path, "pipeline.segments=2", "training.batch_size=16", "privacy.enabled=false"
    )
    assert "the sums are exact" in plan_report(off, ranks=3)


def test_a_plan_of_many_names_counts_the_steps_of_the_run(tmp_path: Path) -> None:
    """Names of some three samples fill no group of eight: classes in their place gave half."""
    job = private_lda_job(
        tmp_path,
        "pipeline.segments=2",
        "training.batch_size=16",
        "training.average_rows=8",
        "training.epochs=1",
        "labels.expansion=80",
    )
    planned = int(plan_report(job, ranks=3).partition(" steps of 16 rows")[0].split()[-1])
    names = set_up(tmp_path, job).sub_labels
    steps = count_batches(sub_labels=names, batch_size=16, average_rows=8)
    assert RELEASED // 8 // 16 == 6
    assert steps > 15
    assert abs(planned - steps) <= 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ('privacy.unit="element"', "needs privacy.unit"),
        ('front.kind="dp-sgd"', "dp-sgd"),
        ("front.private_share=0", "private_share"),
        ("front.private_share=1", "private_share"),
    ],
)
def test_impossible_jobs_are_refused_when_read(tmp_path: Path, setting: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        private_lda_job(tmp_path, setting, *(["front.dim=3"] if "dp-sgd" in setting else []))


def test_public_data_must_be_named(tmp_path: Path) -> None:
    text = '[data]\npath = "digits"\n[front]\nprojection = "private-lda"\n'
    with pytest.raises(UsageError, match=r"needs front\.public_data"):
        private_lda_job(tmp_path, text=text)


@pytest.mark.parametrize("share", [0.003, 0.999])
def test_a_share_without_a_sample_a_class_on_either_side_is_refused(
    tmp_path: Path, share: float
) -> None:
    job = private_lda_job(tmp_path, f"front.private_share={share}")
    with pytest.raises(UsageError, match="1100 training samples of 4 classes"):
        set_up(tmp_path, job)


def test_a_number_of_coordinates_has_no_meaning_for_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"take front\.dim out"):
        private_lda_job(tmp_path, "front.dim=2")


def test_all_usable_coordinates_are_those_the_public_rows_vary_in() -> None:
    rows, _ = draw(300, 2)
    flat = np.concatenate([rows, rows[:, :5], np.full((300, 3), 0.25, np.float32)], axis=1)
    assert fit_projection(flat, None, Projection("pca", None)).matrix.shape == (32, WIDTH)
    with pytest.raises(UsageError, match="number of coordinates"):
        Projection("lda", None)


def test_the_projection_needs_samples_to_spend() -> None:
    public = PublicRows(*draw(100, 2), digest_bytes("t", b"public"), "public")
    wanted = Projection("private-lda", None)
    with pytest.raises(UsageError, match="samples to spend"):
        build_front(
            FrontBase(kind="identity", input_shape=(WIDTH,)),
            projection=ProjectionData(wanted, public),
        )

"""A projection paid with samples: who pays, what is released, and that it finds the classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from spent_cases import CLASSES, TRAIN, WIDTH, draw, spent_job

from clicooper_hpc.commands.plan import plan_text
from clicooper_hpc.config.job import Job
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import BudgetExceededError, UsageError
from clicooper_hpc.fronts.build import build_front
from clicooper_hpc.fronts.from_job import front_outline
from clicooper_hpc.fronts.front import Front, assemble_front, restore_front
from clicooper_hpc.fronts.private_lda import spend_samples
from clicooper_hpc.fronts.projection import (
    Projection,
    PublicRows,
    fit_projection,
)
from clicooper_hpc.owner.card import card_of
from clicooper_hpc.owner.setup import Preparation, prepare
from clicooper_hpc.privacy.keys import MasterKey
from clicooper_hpc.runstore.private import PrivateFolder
from clicooper_hpc.training.batches import count_batches

SPENT = 220  # a fifth of the 1,100 training samples that are not held back for validation
RELEASED = TRAIN - 100 - SPENT


def life(folder: Path, job: Job, name: str = "private") -> Preparation:
    return prepare(job, PrivateFolder(folder / name))


def all_ids(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64)


def found(front: Front, train: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """Accuracy of nearest class means on fresh rows."""
    rows, (fresh, wanted) = front.rows(train), draw(400, 1)
    means = np.stack([rows[classes == k].mean(axis=0) for k in range(CLASSES)])
    apart = ((front.rows(fresh)[:, np.newaxis] - means) ** 2).sum(axis=2)
    return float((apart.argmin(axis=1) == wanted).mean())


def test_every_sample_is_spent_or_released_and_none_is_both(tmp_path: Path) -> None:
    job = spent_job(tmp_path)
    made = life(tmp_path, job)
    spent, train = made.samples.spent, made.samples.splits["train"]
    assert spent is not None
    assert (len(spent), len(train)) == (SPENT, RELEASED)
    assert made.contract.samples == len(made.sub_labels) == RELEASED
    keys = [
        {row.tobytes() for row in split.rows(all_ids(len(split)))}
        for split in (spent, train, made.samples.splits["validation"])
    ]
    assert [len(part) for part in keys] == [SPENT, RELEASED, 100]
    # As many different rows as samples, so no sample is in two of the three.
    assert keys[0] | keys[1] | keys[2] == {row.tobytes() for row in draw(TRAIN, 0)[0]}


def test_rows_that_leave_are_those_of_released_samples_alone(tmp_path: Path) -> None:
    """Without noise a row is its sample's, so a spent sample's row would be recognised."""
    job = spent_job(tmp_path, "privacy.enabled=false")
    made = life(tmp_path, job)
    spent, train = made.samples.spent, made.samples.splits["train"]
    assert spent is not None
    left, new = made.desk.rows("train", all_ids(RELEASED))
    assert new == RELEASED
    assert np.array_equal(left.numpy(), made.front.rows(train.rows(all_ids(RELEASED))))
    hidden = {row.tobytes() for row in made.front.rows(spent.rows(all_ids(SPENT)))}
    assert hidden.isdisjoint({row.tobytes() for row in left.numpy()})
    with pytest.raises(ValueError, match="leave the 880 samples"):
        made.desk.rows("train", all_ids(RELEASED + 1))


@pytest.mark.parametrize("relation", ["replace-one", "zero-out"])
def test_each_sample_pays_once_and_a_budget_of_one_release_is_enough(
    tmp_path: Path, relation: str
) -> None:
    budget = ["privacy.budget_epsilon=8.0", "privacy.budget_delta=1e-5"]
    job = spent_job(tmp_path, f'privacy.relation="{relation}"', *budget)
    made = life(tmp_path, job)
    made.desk.authorise_labels()
    made.desk.rows("train", all_ids(10))
    made.desk.rows("validation", all_ids(10))
    entries = {(e.split, e.kind): e for e in made.desk.ledger.entries}
    assert set(entries) == {
        ("spent", "class-sums"),
        ("train", "labels"),
        ("train", "training-release"),
        ("validation", "validation-release"),
    }
    sums, release = entries["spent", "class-sums"], entries["train", "training-release"]
    assert (sums.samples, release.samples) == (SPENT, RELEASED)
    assert sums.charge is not None
    assert release.charge is not None
    assert sums.charge.mu == pytest.approx(release.charge.mu)
    spent = made.desk.ledger.spent(1e-5, relation=job.privacy.relation)
    assert 7.999 < spent[0] <= 8.0
    # A second life finds the charge and does not make it again.
    again = life(tmp_path, job)
    assert again.desk.ledger.entries == made.desk.ledger.entries


def test_a_budget_below_the_sums_stops_before_anything_is_prepared_to_leave(
    tmp_path: Path,
) -> None:
    budget = ["privacy.budget_epsilon=7.9", "privacy.budget_delta=1e-5"]
    with pytest.raises(BudgetExceededError, match="class sums") as caught:
        life(tmp_path, spent_job(tmp_path, *budget))
    assert "split 'spent'" in caught.value.line()
    assert not (tmp_path / "private" / "ledger.json").exists()


def test_two_lives_from_one_key_make_the_same_front_and_rows(tmp_path: Path) -> None:
    """The second one has lost the stored front: it must not draw other noise."""
    job = spent_job(tmp_path, 'privacy.mode="secure"')
    first = life(tmp_path, job)
    PrivateFolder(tmp_path / "again").write(
        "master.key", (tmp_path / "private" / "master.key").read_bytes()
    )
    second, stranger = life(tmp_path, job, "again"), life(tmp_path, job, "other")
    stored = life(tmp_path, job)
    assert first.front.digest == second.front.digest == stored.front.digest
    assert first.front.digest != stranger.front.digest
    rows = [one.desk.rows("train", all_ids(50))[0].numpy() for one in (first, second)]
    assert np.array_equal(rows[0], rows[1])
    assert stored.front.provenance == first.front.provenance


def test_a_stored_front_keeps_who_paid(tmp_path: Path) -> None:
    for setting in ("privacy.enabled=true", "privacy.enabled=false"):
        front = life(tmp_path, spent_job(tmp_path, setting), setting[-4:]).front
        again = restore_front(front.settings(), front.private_tensors())
        assert again.provenance == front.provenance
        assert again.provenance.spent is not None
        assert again.provenance.spent.samples == SPENT


@pytest.mark.parametrize(("setting", "least"), [("false", 0.9), ("true", 0.8)])
def test_the_projection_finds_classes_that_public_directions_hide(
    tmp_path: Path, setting: str, least: float
) -> None:
    front = life(tmp_path, spent_job(tmp_path, f"privacy.enabled={setting}")).front
    train, classes = draw(TRAIN, 0)
    public = PublicRows(*draw(800, 2, classes=7), digest_bytes("t", b"public"), "public")
    pca = build_front(
        kind="identity",
        input_shape=(WIDTH,),
        projection=Projection("pca", CLASSES - 1),
        public=public,
        normalise=1.0,
    )
    assert front.output_shape == (CLASSES,)
    assert found(pca, train, classes) < 0.5
    assert found(front, train, classes) > least
    rows = front.rows(train)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert front.non_negative
    assert rows.min() >= 0


def test_randomised_labels_are_what_the_sums_are_made_of(tmp_path: Path) -> None:
    """Where answers are nearly all true the means are the true ones, else they lie elsewhere."""
    job = spent_job(tmp_path, "privacy.enabled=false")
    made = life(tmp_path, job)
    stages, spent = made.front.stages[:3], made.samples.spent
    assert spent is not None
    before = assemble_front((WIDTH,), stages, made.front.provenance)
    key = MasterKey.from_seed(1)

    def centred(response_epsilon: float | None) -> NDArray[np.float64]:
        means = spend_samples(
            before, spent, CLASSES, job.privacy, key, response_epsilon=response_epsilon
        ).means
        return np.asarray(means - means.mean(axis=0))

    true = centred(None)
    assert np.array_equal(centred(40.0), true)
    assert abs((centred(0.001) * true).sum() / (true * true).sum()) < 0.5
    assert (true * true).sum() > 0.1


def test_means_are_divided_by_a_constant_and_noise_is_what_the_card_says(tmp_path: Path) -> None:
    """The discriminant's offset is the mean of the class means: sums / (spent / K), over K."""
    offsets = {}
    sigma = 0.0
    for setting in ("true", "false"):
        made = life(tmp_path, spent_job(tmp_path, f"privacy.enabled={setting}"), setting)
        spent, stages = made.samples.spent, made.front.stages
        assert spent is not None
        assert len(stages) == 5  # identity, PCA, norm 1, class scores, norm C
        before = assemble_front((WIDTH,), stages[:3], made.front.provenance)
        rows = before.rows(spent.rows(all_ids(SPENT))).astype(np.float64)
        spending = made.front.provenance.spent
        assert spending is not None
        sigma = max(sigma, 0.0 if spending.spec is None else spending.spec.sigma)
        offsets[setting] = (stages[3].tensors()["offset"].numpy(), rows.mean(axis=0))
    assert np.allclose(*offsets["false"], atol=1e-6)
    got, want = offsets["true"]
    # K sums with noise sigma each, divided by the spent / K samples and averaged over K classes.
    expected = sigma * math.sqrt(CLASSES) / SPENT
    assert 0.4 * expected < (got - want).std() < 2.0 * expected


def test_the_card_names_projection_samples_and_price(tmp_path: Path) -> None:
    job = spent_job(tmp_path)
    made = life(tmp_path, job)
    card = card_of(job, made)
    text = next(line for line in card.lines() if line.startswith("front "))
    assert card.front.kind == "class-sums"
    assert f"noised class sums of {SPENT} training samples, never released" in text
    assert "epsilon 8, delta 1e-05 for each, once" in text
    assert "of public" in text
    assert "CONDITIONAL" not in card.text()
    assert card.sample_total()[0] == pytest.approx(8.0)
    off = spent_job(tmp_path, "privacy.enabled=false")
    words = card_of(off, life(tmp_path, off, "off")).text()
    assert "exact class sums" in words
    assert "without noise, no guarantee" in words
    assert "noised class sums" not in words


def test_a_projection_fitted_on_the_private_data_is_still_conditional(tmp_path: Path) -> None:
    job = spent_job(tmp_path, f'front.public_data="{tmp_path / "private.h5"}"')
    made = life(tmp_path, job)
    assert made.front.provenance.conditional
    assert "CONDITIONAL" in card_of(job, made).text()


def test_a_plan_counts_what_the_run_will_release(tmp_path: Path) -> None:
    job = spent_job(tmp_path, "pipeline.segments=2", "training.batch_size=16")
    text = plan_text(job, ranks=3)
    assert f"{RELEASED} training samples" in text
    assert f"{SPENT} more training samples are spent on its class sums" in text
    made = life(tmp_path, job)
    outline = front_outline(job, made.samples.splits["train"], CLASSES)
    assert outline == (made.front.output_shape, made.front.non_negative)
    off = spent_job(
        tmp_path, "pipeline.segments=2", "training.batch_size=16", "privacy.enabled=false"
    )
    assert "the sums are exact" in plan_text(off, ranks=3)


def test_a_plan_of_many_names_counts_the_steps_of_the_run(tmp_path: Path) -> None:
    """Names of some three samples fill no group of eight: classes in their place gave half."""
    job = spent_job(
        tmp_path,
        "pipeline.segments=2",
        "training.batch_size=16",
        "training.average_rows=8",
        "training.epochs=1",
        "labels.expansion=80",
    )
    planned = int(plan_text(job, ranks=3).partition(" steps of 16 rows")[0].split()[-1])
    names = life(tmp_path, job).sub_labels
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
        spent_job(tmp_path, setting, *(["front.dim=3"] if "dp-sgd" in setting else []))


def test_public_data_must_be_named(tmp_path: Path) -> None:
    text = '[data]\npath = "digits"\n[front]\nprojection = "private-lda"\n'
    with pytest.raises(UsageError, match=r"needs front\.public_data"):
        spent_job(tmp_path, text=text)


@pytest.mark.parametrize("share", [0.003, 0.999])
def test_a_share_without_a_sample_a_class_on_either_side_is_refused(
    tmp_path: Path, share: float
) -> None:
    job = spent_job(tmp_path, f"front.private_share={share}")
    with pytest.raises(UsageError, match="1100 training samples of 4 classes"):
        life(tmp_path, job)


def test_a_number_of_coordinates_has_no_meaning_for_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"take front\.dim out"):
        spent_job(tmp_path, "front.dim=2")


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
        build_front(kind="identity", input_shape=(WIDTH,), projection=wanted, public=public)

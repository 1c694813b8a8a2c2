"""Names of public rows tell classes of images up to their order; sizes tell shares of classes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from steal_cases import NUMBERS, K, delivered, pictures, trainer, truth
from summed_cases import MODES, holder
from torch import nn

from clicooper_hpc.attacks.harness.adversary import (
    NO_SAMPLE_LEFT,
    OUTSIDER,
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.tasks import NOT_APPLICABLE, attempt_task
from clicooper_hpc.attacks.labels.clustering_attack import CLUSTERING
from clicooper_hpc.attacks.labels.merge_attack import MERGE
from clicooper_hpc.attacks.property_attack import PROPERTY
from clicooper_hpc.config.owner_sections import ReleaseMode

TEST, AUX = pictures(400, 2), pictures(600, 3)
ORDER = np.array([2, 0, 3, 1])


def skewed() -> LabelledImages:
    """Owner's samples of which class k has k + 1 parts in ten."""
    many = pictures(2000, 1)
    chosen = np.concatenate(
        [np.flatnonzero(many.classes == one)[: 60 * (one + 1)] for one in range(K)]
    )
    return LabelledImages(many.images[chosen], many.classes[chosen])


TRAIN = skewed()


def given(names: bool = True) -> GroundTruth:
    """The truth, with a network that is always right, or one that knows nothing."""

    def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
        pool = np.concatenate([TEST.images, AUX.images])
        classes = np.concatenate([TEST.classes, AUX.classes])
        place = {image.tobytes(): index for index, image in enumerate(pool)}
        known = classes[[place[image.tobytes()] for image in images]]
        to_name = np.argsort(ORDER)[known]
        return np.eye(K)[to_name] if names else np.full((len(images), K), 1 / K)

    whole = truth(TRAIN, TEST, delivered(TRAIN, 0))
    return replace(whole, class_of_sub_label=ORDER.astype(np.int64), predict=predict)


def public_view(
    names: NDArray[np.int64] | None = None, mode: ReleaseMode = "moments"
) -> AdversaryView:
    """Trainer 1 with rows of public images and names under a secret order of the classes."""
    public = pictures(800, 9)
    chosen = np.argsort(ORDER)[public.classes] if names is None else names
    view = trainer(public, 0.0)
    return replace(
        view,
        sub_labels=chosen.astype(np.int32),
        sub_label_count=K,
        groups=np.empty((800, 0), dtype=np.int64),
        release=mode,
        samples=len(TRAIN),
    )


def outsider_view(mode: ReleaseMode = "moments") -> AdversaryView:
    return replace(
        public_view(mode=mode),
        adversary=Adversary(OUTSIDER, (1,)),
        rows=np.empty((0, NUMBERS), dtype=np.float32),
        sub_labels=np.empty(0, dtype=np.int32),
    )


def merged(view: AdversaryView, known: GroundTruth) -> dict[str, AttackResult]:
    assert MERGE.applies(view) is None
    outcome = MERGE.run(view, AuxiliaryData(AUX, None), known, 0, 1.0)
    return {one.metric: one for one in outcome.results}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("view", [public_view, outsider_view], ids=["trainer", "outsider"])
def test_names_group_images_and_a_label_undoes_their_order(
    view: Callable[..., AdversaryView], mode: ReleaseMode
) -> None:
    found = merged(view(mode=mode), given())
    assert found["ARI of images by name"].value > 0.9
    assert found["Hungarian accuracy of images by name"].value > 0.95
    assert found["accuracy, names read with 10 per class"].value > 0.95
    assert found["ARI of images by name"].chance == 0


def test_names_drawn_blindly_group_nothing() -> None:
    blind = np.random.default_rng(0).integers(0, K, 800)
    found = merged(public_view(blind), given())
    assert abs(found["ARI of images by name"].value) < 0.1
    one = found["Hungarian accuracy of images by name"]
    assert abs(one.value - one.chance) < 0.15
    # Without names the same images still fall into groups: that is not the trainers' doing.
    assert found["ARI of images by name"].baseline > 0.5


def test_a_network_that_knows_nothing_groups_nothing() -> None:
    assert merged(outsider_view(), given(names=False))["ARI of images by name"].value == 0


def shares(view: AdversaryView, known: GroundTruth) -> dict[tuple[str, str], AttackResult]:
    assert PROPERTY.applies(view) is None
    outcome = PROPERTY.run(view, AuxiliaryData(AUX, None), known, 0, 1.0)
    return {
        (one.variant, one.metric[:3]): one
        for one in outcome.results
        if one.variant.startswith("class shares")
    }


def test_sizes_tell_shares_with_noise_or_without() -> None:
    off, strict = (shares(holder(TRAIN, epsilon), given()) for epsilon in (None, 2.0))
    name = "class shares, noised sizes"
    assert off[name, "MSE"].value == pytest.approx(0, abs=1e-9)
    # Equal shares are 15, 5, 5 and 15 points off.
    assert off[name, "MSE"].baseline == pytest.approx(125)
    assert off[name, "pai"].value == 1
    # The noise is a few samples of hundreds.
    assert 0 < strict[name, "MSE"].value < 4
    assert strict[name, "pai"].value == 1
    # And of few samples most of it.
    few = LabelledImages(TRAIN.images[::60], TRAIN.classes[::60])
    known = replace(given(), train=few)
    assert shares(holder(few, 0.5), known)[name, "MSE"].value > 50


def test_class_sums_alone_tell_shares_beside_images_of_ones_own() -> None:
    off, strict = (shares(holder(TRAIN, epsilon, mode="sums"), given()) for epsilon in (None, 2.0))
    name = "class shares, class sums"
    # Means of a hundred images a class are off by little.
    assert off[name, "MSE"].value < 4
    assert strict[name, "MSE"].value < 6
    assert off[name, "pai"].value == strict[name, "pai"].value == 1
    assert "sizes are not released" in off[name, "MSE"].note
    # And of few samples next to nothing.
    few = LabelledImages(TRAIN.images[::60], TRAIN.classes[::60])
    found = shares(holder(few, 0.5, mode="sums"), replace(given(), train=few))
    assert found[name, "MSE"].value > 50


def test_names_of_rows_tell_shares_too() -> None:
    names = np.argsort(ORDER)[np.repeat(np.arange(K), [80, 160, 240, 320])]
    found = shares(public_view(names), given())
    assert found["class shares, names of rows", "MSE"].value == pytest.approx(0, abs=1e-9)
    assert "owner's map" in found["class shares, names of rows", "MSE"].note


def test_the_network_tells_of_shares_what_it_answers() -> None:
    found = shares(outsider_view(), given(names=False))
    one = found["class shares, answers of the network", "MSE"]
    assert one.value == pytest.approx(one.baseline)
    assert found["class shares, answers of the network", "pai"].value == 0.5


def test_equal_classes_have_no_order_to_tell() -> None:
    equal = LabelledImages(TRAIN.images[:4], np.arange(4))
    found = shares(holder(equal, None), replace(given(), train=equal))
    assert {metric for _, metric in found} == {"MSE"}


@pytest.mark.parametrize("mode", MODES)
def test_what_has_no_object_says_so_in_one_line(mode: ReleaseMode) -> None:
    early = public_view(mode=mode)
    late = replace(early, adversary=Adversary("trainer 2", (2,)), segments={2: nn.Linear(3, 3)})
    for attack, view in ((CLUSTERING, early), (CLUSTERING, late), (MERGE, late)):
        outcome = attempt_task(attack, view, AuxiliaryData(AUX, None), given(), seed=0, scale=1.0)
        (one,) = outcome.results
        assert one.metric == NOT_APPLICABLE
        assert one.note.startswith(NO_SAMPLE_LEFT)
        assert math.isnan(one.value)
    # Whoever held the moments holds something, although neither rows nor weights.
    assert MERGE.applies(holder(TRAIN, 2.0, mode=mode)) == NO_SAMPLE_LEFT
    assert PROPERTY.applies(holder(TRAIN, 2.0, mode=mode)) is None

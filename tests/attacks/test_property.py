"""Property inference sees brightness and colour in clean rows, and nothing in noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from steal_cases import delivered, outsider, pictures, trainer, truth

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.property_attack import PROPERTY
from clicooper_hpc.attacks.toolbox.image_properties import image_properties

TRAIN, TEST, AUX = pictures(1000, 1), pictures(200, 2), pictures(1500, 3)
SEGMENTS = delivered(TRAIN, 0)


def attacked(view: AdversaryView) -> dict[str, AttackResult]:
    outcome = PROPERTY.run(view, AuxiliaryData(AUX, None), truth(TRAIN, TEST, SEGMENTS), 0, 0.2)
    return {one.variant: one for one in outcome.results}


def test_clean_rows_show_brightness_and_colour() -> None:
    found = attacked(trainer(TRAIN, 0.0))
    bright, colour = found["brightness above median"], found["dominant colour channel"]
    assert bright.value > 0.9
    assert colour.value > 0.8
    assert bright.chance == 0.5
    assert colour.chance == pytest.approx(1 / 3)
    assert bright.value > bright.baseline + 0.2
    assert bright.low <= bright.value <= bright.high
    assert np.isnan(bright.ceiling)


def test_noise_hides_them_and_the_ceiling_holds() -> None:
    values = [attacked(trainer(TRAIN, sigma)) for sigma in (0.05, 0.3, 40.0)]
    bright = [one["brightness above median"] for one in values]
    assert bright[0].value > bright[1].value > bright[2].value
    assert abs(bright[2].value - 0.5) < 0.06
    assert abs(values[2]["dominant colour channel"].value - 1 / 3) < 0.06
    assert bright[2].ceiling == pytest.approx(0.5, abs=0.02)
    assert all(one.low <= one.ceiling for one in bright)


def test_rows_without_the_image_are_at_chance() -> None:
    view = trainer(TRAIN, 0.0)
    shuffled = view.rows[np.random.default_rng(0).permutation(len(view.rows))]
    found = attacked(replace(view, rows=shuffled))
    assert abs(found["brightness above median"].value - 0.5) < 0.06


def test_means_of_rows_show_less_but_not_nothing() -> None:
    single, mean = attacked(trainer(TRAIN, 0.0)), attacked(trainer(TRAIN, 0.0, group=4))
    name = "brightness above median"
    assert 0.55 < mean[name].value < single[name].value
    assert np.isnan(attacked(trainer(TRAIN, 1.0, group=4))[name].ceiling)


def test_knowing_the_class_helps_where_it_tells_the_property() -> None:
    """The baseline is more than chance: patterns of classes differ in brightness."""
    found = attacked(trainer(TRAIN, 0.0))
    assert found["brightness above median"].baseline > 0.5


def test_grey_images_have_no_colour() -> None:
    assert [one.name for one in image_properties(AUX.images[:, :1])] == ["brightness above median"]
    values = image_properties(AUX.images)[0].of(AUX.images)
    assert values.mean() == pytest.approx(0.5, abs=0.01)


def test_who_cannot_make_shadow_rows_is_told_why() -> None:
    assert PROPERTY.applies(trainer(TRAIN, 0.0)) is None
    assert "front" in str(PROPERTY.applies(replace(trainer(TRAIN, 0.0), front=None)))
    assert "rows" in str(PROPERTY.applies(outsider(SEGMENTS)))
    late = replace(trainer(TRAIN, 0.0).adversary, segments=(2,))
    assert "segments" in str(PROPERTY.applies(replace(trainer(TRAIN, 0.0), adversary=late)))


def test_the_same_seed_gives_the_same_figures() -> None:
    assert repr(attacked(trainer(TRAIN, 0.3))) == repr(attacked(trainer(TRAIN, 0.3)))

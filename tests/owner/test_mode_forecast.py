"""Forecasts of release modes: simulated on public rows that stand in for samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.owner.mode_forecast import (
    ModeForecast,
    ReleaseWay,
    choose_forecast,
    forecast_accuracy,
)
from clicooper_hpc.owner.stand_ins import (
    StandIns,
    choose_stand_ins,
    most_united,
    split_classes,
)
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_sigma

CLASSES, NUMBERS, ROWS = 24, 12, 4800


def public_rows() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rows around the centre of their class, classes, and which are held out."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(CLASSES, NUMBERS))
    labels = np.arange(ROWS) % CLASSES
    rows = centres[labels] + 0.6 * rng.normal(size=(ROWS, NUMBERS))
    return rows, labels, rng.random(ROWS) < 0.25


def chosen(wanted: int = 6, united: int = 1, seed: int = 0) -> StandIns:
    rng = np.random.default_rng(seed)
    return choose_stand_ins(*public_rows(), wanted=wanted, united=united, rng=rng)


def ways(epsilon: float) -> dict[str, ReleaseWay]:
    sigma = gaussian_sigma(epsilon, 1e-5, 2.0)
    made = [
        ReleaseWay("rows", "", NUMBERS, sigma, each_row=True),
        ReleaseWay("sums", "", NUMBERS, sigma),
        ReleaseWay("moments", "", NUMBERS, sigma),
    ]
    return {way.mode: way for way in made}


def mean_accuracy(way: ReleaseWay, samples: int) -> float:
    """Mean over draws of the noise: one is no fair comparison."""
    rows, labels, _ = public_rows()
    found = [
        forecast_accuracy(
            way, rows, labels, chosen(), samples=samples, rng=np.random.default_rng(seed)
        )
        for seed in range(5)
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("united", [1, 2, 4])
def test_stand_ins_are_apart_from_rows_that_stay_public(united: int) -> None:
    one = chosen(united=united)
    labels, held_out = public_rows()[1:]
    places = np.concatenate([one.train, one.held, one.public])
    assert len(np.unique(places)) == len(places)
    assert held_out[one.held].all()
    assert not held_out[one.train].any()
    assert not held_out[one.public].any()
    assert len(np.unique(labels[one.train])) == 6 * united
    assert set(one.classes[one.train]) == set(one.classes[one.held]) == set(range(6))
    # Only where all classes stand in must rows of theirs stay public as well.
    shared = set(labels[one.train]) & set(labels[one.public])
    assert bool(shared) == (united == 4)
    assert most_united(labels, 6) == 2


def test_unions_are_of_classes_near_each_other() -> None:
    rows, labels, _ = public_rows()
    means = np.stack([rows[labels == name].mean(axis=0) for name in range(CLASSES)])
    one = chosen(wanted=4, united=2)
    inside = [
        np.linalg.norm(means[pair[0]] - means[pair[1]])
        for pair in (np.unique(labels[one.classes == place]) for place in range(4))
    ]
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(CLASSES, 1)]
    assert max(inside) < np.median(apart)


def test_public_classes_are_halved_until_there_are_enough() -> None:
    rows, labels, held_out = public_rows()
    rng = np.random.default_rng(0)
    parts = split_classes(rows, labels, 60, rng)
    assert len(np.unique(parts)) == 4 * CLASSES
    assert np.ptp(np.bincount(parts)[np.unique(parts)]) <= 2
    # A part is of one class.
    pairs = {(int(part), int(name)) for part, name in zip(parts, labels, strict=True)}
    assert len(pairs) == 4 * CLASSES
    assert np.array_equal(split_classes(rows, labels, 6, rng), labels)
    few = rows[:40], split_classes(rows[:40], labels[:40], 60, rng), held_out[:40]
    with pytest.raises(DataError, match="too few to stand in for 60 classes"):
        choose_stand_ins(*few, wanted=60, united=1, rng=rng)


def test_noise_that_drowns_rows_leaves_sums_of_all() -> None:
    found = {mode: mean_accuracy(way, 1500) for mode, way in ways(1.0).items()}
    assert found["sums"] > found["rows"] + 0.1
    assert found["moments"] > found["rows"] + 0.1


def test_rows_have_the_noise_of_a_mean_of_that_many_rows() -> None:
    """As sums with sqrt(N / K) times the noise; by hand, for as many stand-ins as samples."""
    rows, labels, _ = public_rows()
    one, sigma = chosen(), 1.7
    samples = len(one.train)
    each = (samples / 6) ** 0.5
    accuracies = [
        forecast_accuracy(way, rows, labels, one, samples=samples, rng=np.random.default_rng(4))
        for way in (
            ReleaseWay("rows", "", NUMBERS, sigma, each_row=True),
            ReleaseWay("sums", "", NUMBERS, sigma * each),
            ReleaseWay("rows", "", NUMBERS, sigma * each / 4, spent=0.25),
        )
    ]
    assert len(set(accuracies)) == 1


def test_more_samples_are_forecast_to_bear_more_noise() -> None:
    way = ways(0.1)["sums"]
    assert mean_accuracy(way, 30000) > mean_accuracy(way, 300) + 0.1


def test_modes_within_two_points_are_named_beside_the_best() -> None:
    rows, sums, moments = ways(1.0).values()
    made = (
        ModeForecast(rows, (0.63, 0.64)),
        ModeForecast(sums, (0.70, 0.60)),
        ModeForecast(moments, (0.71, 0.605)),
    )
    best, close = choose_forecast(made)
    assert best.way.mode == "moments"
    assert [one.way.mode for one in close] == ["sums"]

"""Forecasts of release modes: simulated on public rows, compared with what a release reaches."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.owner.mode_forecast import (
    Forecast,
    ModeForecast,
    choose_forecast,
    forecast_class_scores,
    forecast_moments,
    forecast_rows,
    forecast_sums,
)
from clicooper_hpc.owner.stand_ins import choose_stand_ins, stand_in_sets
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_sigma

CLASSES, NUMBERS, ROWS = 24, 12, 2400
WAYS: dict[str, Forecast] = {
    "rows": forecast_rows,
    "scores": partial(forecast_class_scores, spent=0.4),
    "sums": forecast_sums,
    "moments": forecast_moments,
}


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def public(two_sided: bool = False) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows around the centre of their class; ``two_sided``: or around the opposite point."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(CLASSES, NUMBERS))
    labels = np.arange(ROWS) % CLASSES
    sides = rng.choice([-1.0, 1.0], size=ROWS) if two_sided else np.ones(ROWS)
    spread = 0.35 if two_sided else 0.6
    rows = sides[:, np.newaxis] * centres[labels] + spread * rng.normal(size=(ROWS, NUMBERS))
    return unit(rows), labels


def forecasts(
    epsilon: float | None, *, two_sided: bool = False, samples: int = 3000
) -> dict[str, ModeForecast]:
    rows, labels = public(two_sided)
    sigma = 0.0 if epsilon is None else gaussian_sigma(epsilon, 1e-5, 2.0)
    sets = list(stand_in_sets(rows, labels, 6, seed=0))
    return {
        name: ModeForecast(
            name,
            "",
            tuple(
                way(one.scene(rows, labels, samples), sigma, np.random.default_rng(number))
                for number, one in enumerate(sets)
            ),
        )
        for name, way in WAYS.items()
    }


def test_stand_ins_are_apart_from_rows_that_stay_public() -> None:
    rows, labels = public()
    for united, one in enumerate(stand_in_sets(rows, labels, 6, seed=1), start=1):
        places = np.concatenate([one.train, one.held, one.public])
        assert len(np.unique(places)) == len(places)
        assert one.count == 6
        chosen = np.unique(labels[np.concatenate([one.train, one.held])])
        assert len(chosen) == 6 * united
        # Unions of three take most classes, so half of their rows stay public as well.
        assert not set(chosen) & set(labels[one.public]) or united == 3
        assert set(one.classes[one.train]) == set(range(6))


def test_unions_are_of_classes_near_each_other() -> None:
    rows, labels = public()
    means = np.stack([rows[labels == name].mean(axis=0) for name in range(CLASSES)])
    one = choose_stand_ins(rows, labels, 4, united=2, rng=np.random.default_rng(0))
    inside = [
        np.linalg.norm(means[pair[0]] - means[pair[1]])
        for pair in (np.unique(labels[one.classes == place]) for place in range(4))
    ]
    apart = np.linalg.norm(means[:, None] - means[None], axis=2)[np.triu_indices(CLASSES, 1)]
    assert max(inside) < np.median(apart)


def test_fewer_public_classes_than_wanted_all_stand_in() -> None:
    rows, labels = public()
    one = choose_stand_ins(rows, labels, 100, united=1, rng=np.random.default_rng(0))
    assert one.count == CLASSES
    assert len(one.public) > 0
    assert not set(one.train) & set(one.public)
    with pytest.raises(DataError, match="too few to stand in for 3 classes"):
        choose_stand_ins(rows[:1], labels[:1], 3, united=1, rng=np.random.default_rng(0))


def test_where_noise_drowns_rows_sums_of_all_are_best() -> None:
    found = forecasts(0.5, samples=600)
    assert found["rows"].mean < 0.6
    assert found["sums"].mean > found["rows"].mean + 0.2
    best, close = choose_forecast(found.values())
    assert best.mode in ("sums", "moments")
    assert "rows" not in {one.mode for one in close}


def test_without_noise_rows_teach_what_no_moment_says() -> None:
    """Classes on both sides of the origin have the same mean: only rows show them."""
    found = forecasts(None, two_sided=True)
    assert found["sums"].mean < 0.5
    assert choose_forecast(found.values())[0].mode == "rows"
    # The same rows under noise teach nothing.
    assert forecasts(1.0, two_sided=True)["rows"].mean < 0.5


def test_less_noise_and_more_samples_forecast_more() -> None:
    noisy = forecasts(0.1, samples=300)["sums"].mean
    assert forecasts(8.0, samples=300)["sums"].mean > noisy + 0.1
    assert forecasts(0.1, samples=30000)["sums"].mean > noisy + 0.1


def test_modes_within_a_point_are_named_beside_the_best() -> None:
    made = [
        ModeForecast("rows", "", (0.5, 0.6)),
        ModeForecast("sums", "", (0.70, 0.60)),
        ModeForecast("moments", "", (0.71, 0.605)),
    ]
    best, close = choose_forecast(made)
    assert best.mode == "moments"
    assert [one.mode for one in close] == ["sums"]


def test_the_same_seed_forecasts_the_same() -> None:
    assert forecasts(2.0)["moments"] == forecasts(2.0)["moments"]

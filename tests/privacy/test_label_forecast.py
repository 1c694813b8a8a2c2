from __future__ import annotations

import pytest

from clicooper_hpc.privacy.label_forecast import (
    LabelForecast,
    ReleasedRows,
    Signal,
    forecast_fewest_names,
    forecast_labels,
    forecast_signal,
)

STRICT = forecast_signal("sample", 1.0, 32)
WIDE = forecast_signal("element", 1.0, 12_288)


def forecast(
    method: str, signal: Signal, sigma: float, gamma: int, *, rows: int = 18_000
) -> LabelForecast:
    assert method in ("none", "random", "anchors")
    dimension = 32 if signal == STRICT else 12_288
    released = ReleasedRows(signal, sigma, dimension, rows, 10)
    return forecast_labels(method, released, gamma)  # type: ignore[arg-type]


# Strongest grouping by mean rows, as measured on CIFAR-10 (docs/label-map.md, experiments of
# 2026-11-21, seed 0).
MEASURED = [
    ("random", STRICT, 1.2, 4, 0.94),
    ("random", STRICT, 1.2, 20, 0.54),
    ("random", STRICT, 1.2, 50, 0.23),
    ("random", STRICT, 1.2, 100, 0.12),
    ("random", STRICT, 1.2, 200, 0.04),
    ("random", STRICT, 3.99, 4, 0.16),
    ("random", STRICT, 3.99, 20, 0.05),
    ("random", STRICT, 3.99, 50, 0.02),
    ("random", WIDE, 2.0, 20, 1.00),
    ("anchors", WIDE, 2.0, 20, 0.11),
    ("anchors", WIDE, 2.0, 50, 0.06),
    ("anchors", WIDE, 0.6, 20, 0.14),
    ("anchors", WIDE, 0.6, 50, 0.13),
    ("anchors", WIDE, 0.6, 100, 0.09),
]


@pytest.mark.parametrize(("method", "signal", "sigma", "gamma", "measured"), MEASURED)
def test_the_leak_is_what_was_measured_to_within_an_eighth(
    method: str, signal: Signal, sigma: float, gamma: int, measured: float
) -> None:
    assert forecast(method, signal, sigma, gamma).leak == pytest.approx(measured, abs=0.125)


def test_more_noise_and_more_names_hide_better() -> None:
    by_gamma = [forecast("random", STRICT, 1.2, gamma).leak for gamma in (4, 50, 400)]
    by_noise = [forecast("random", STRICT, sigma, 10).leak for sigma in (0.3, 1.2, 8.0)]
    for leaks in (by_gamma, by_noise):
        assert leaks[0] > leaks[1] + 0.1 > leaks[2] + 0.15


def test_rows_that_say_nothing_leave_chance_and_names_without_secret_say_all() -> None:
    silent = forecast("random", Signal(0.0, 0.1), 1.0, 20)
    assert abs(silent.leak) < 0.04
    assert abs(silent.leak_known) < 0.04
    assert forecast("none", STRICT, 3.99, 1).leak == 1.0


def test_known_class_means_help_where_there_are_few_rows_a_name() -> None:
    found = forecast("random", STRICT, 1.2, 100)
    assert found.rows_per_name == 18
    assert found.leak_known > found.leak + 0.03


def test_the_price_grows_with_gamma_and_noise() -> None:
    prices = [forecast("random", STRICT, 1.2, gamma).price for gamma in (1, 4, 200)]
    assert prices[0] == 0 < prices[1] < 1 < prices[2] < 3
    assert forecast("random", WIDE, 0.6, 50).price < 0.2
    assert forecast("anchors", WIDE, 0.6, 50).price > forecast("random", WIDE, 0.6, 50).price


def test_the_fewest_names_that_hide_depend_on_the_noise() -> None:
    found = {
        sigma: forecast_fewest_names(ReleasedRows(STRICT, sigma, 32, 18_000, 10))
        for sigma in (0.1, 1.2, 3.99)
    }
    assert found[0.1] is None
    few, many = found[3.99], found[1.2]
    assert few is not None
    assert few[0] in (10, 20, 50)
    assert few[1].leak_known <= 0.05
    assert many is None or many[0] > few[0]


def test_a_forecast_needs_rows_and_classes() -> None:
    with pytest.raises(ValueError, match="no basis"):
        forecast("random", STRICT, 1.2, 50, rows=400)
    with pytest.raises(ValueError, match="no basis"):
        forecast_labels("random", ReleasedRows(STRICT, 1.0, 4, 50, 1), 2)

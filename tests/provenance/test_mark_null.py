"""How marks read where there is none: exactly as fair coins do, whatever the weights."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mark_cases import arrays_of, network, shapes_of, train, trained
from numpy.typing import NDArray
from scipy import stats

from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.marks.reading import MarkReading, read_mark


def seed_of(name: str) -> bytes:
    return hashlib.sha512(name.encode()).digest()


def read_with_wrong_keys(
    arrays: dict[str, NDArray[np.float32]], count: int, name: str
) -> list[MarkReading]:
    shapes = {key: value.shape for key, value in arrays.items()}
    plan = plan_mark(shapes)
    return [
        read_mark(arrays, plan, draw_carriers(plan, shapes, seed_of(f"{name} {number}")))
        for number in range(count)
    ]


@pytest.mark.slow
def test_a_thousand_wrong_keys_on_a_trained_network_follow_the_null() -> None:
    arrays = arrays_of(trained())
    readings = read_with_wrong_keys(arrays, 1000, "wrong key")
    statistics = [reading.statistic for reading in readings]
    assert stats.kstest(statistics, "norm").pvalue > 0.01
    assert min(reading.log2_p for reading in readings) > -64
    # Errors are binomial: compare the whole distribution.
    bits = readings[0].bits
    errors = np.array([reading.errors for reading in readings])
    low, middle, high = bits // 2 - 2, bits // 2, bits // 2 + 2
    bins = [-1, low, middle, high, bits]
    observed = np.histogram(errors, bins=[edge + 0.5 for edge in bins])[0]
    expected = 1000 * np.diff(stats.binom.cdf(bins, bits, 0.5))
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_wrong_keys_on_heavy_tailed_low_rank_weights_follow_the_null() -> None:
    """Few huge weights, repeated rows, many exact zeros: signs alone decide."""
    generator = np.random.default_rng(0)
    base = generator.standard_t(2, size=(20, 400)) * np.exp(generator.normal(size=(20, 1)) * 2)
    weights = np.repeat(base, 15, axis=0)
    weights[generator.random(weights.shape) < 0.5] = 0
    readings = read_with_wrong_keys({"0.weight": weights.astype(np.float32)}, 250, "structured")
    assert stats.kstest([reading.statistic for reading in readings], "norm").pvalue > 0.01
    assert min(reading.log2_p for reading in readings) > -64


def test_one_key_on_a_hundred_innocent_networks() -> None:
    shapes = shapes_of(network(0))
    plan = plan_mark(shapes)
    carriers = draw_carriers(plan, shapes, seed_of("the key"))
    statistics = []
    for seed in range(100):
        module = network(1000 + seed)
        train(module, 12, seed=seed)
        statistics.append(read_mark(arrays_of(module), plan, carriers).statistic)
    assert stats.kstest(statistics, "norm").pvalue > 0.01
    assert max(abs(value) for value in statistics) < 5


@given(st.integers(1, 64), st.data())
def test_the_binomial_tail_is_exact(bits: int, data: st.DataObject) -> None:
    """Weights that match all but some bits and have no margin: only the tail can speak."""
    errors = data.draw(st.integers(0, bits))
    shapes = {"0.weight": (2 * bits, 8)}
    plan = MarkPlan(bits, 1, 1.0, ("0.weight",))
    carriers = draw_carriers(plan, shapes, seed_of("tail"))
    even = np.zeros(2 * bits * 4)
    # A match counts little, an error much: T is low although bits match.
    want = np.where(np.arange(bits) < errors, -1000.0, 1e-3)
    even[carriers.index[:, 0]] = carriers.sign[:, 0] * want
    weights = np.ones((2 * bits, 8))
    weights[:, ::2] = even.reshape(2 * bits, 4)
    reading = read_mark({"0.weight": weights}, plan, carriers)
    assert reading.errors == errors
    tail = sum(Fraction(math.comb(bits, wrong), 2**bits) for wrong in range(errors + 1))
    hoeffding = math.exp(-(max(reading.statistic, 0.0) ** 2) / 2)
    expected = min(1.0, 2 * min(float(tail), hoeffding))
    assert 2.0**reading.log2_p == pytest.approx(expected, rel=1e-9)


def test_hoeffding_speaks_where_bits_are_few() -> None:
    plan = MarkPlan(4, 64, 1.0, ("0.weight",))
    shapes = {"0.weight": (64, 8)}
    carriers = draw_carriers(plan, shapes, seed_of("few"))
    even = np.zeros(256)
    even[carriers.index] = carriers.sign
    weights = np.ones((64, 8))
    weights[:, ::2] = even.reshape(64, 4)
    reading = read_mark({"0.weight": weights}, plan, carriers)
    assert reading.statistic == pytest.approx(16.0)
    assert reading.log2_p == pytest.approx(1 - 128 / math.log(2))


def test_nothing_is_read_from_zeros() -> None:
    shapes = {"0.weight": (512, 512)}
    plan = plan_mark(shapes)
    reading = read_mark(
        {"0.weight": np.zeros((512, 512))}, plan, draw_carriers(plan, shapes, bytes(64))
    )
    assert reading == MarkReading(plan.bits, plan.bits, 0.0, 0.0)

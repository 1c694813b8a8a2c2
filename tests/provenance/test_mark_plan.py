"""Sizing a mark, and where its carriers may lie."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.marks.carriers import draw_carriers
from clicooper_hpc.provenance.marks.columns import even_column_weights, place_in_columns
from clicooper_hpc.provenance.marks.mark_plan import (
    LEAST_STATISTIC,
    MarkPlan,
    parse_plan_tau,
    plan_mark,
)

SHAPES = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 300), st.sampled_from([(), (3, 3), (1, 1)])),
    min_size=1,
    max_size=5,
).map(lambda rows: {f"{i}.weight": (o, n, *kernel) for i, (o, n, kernel) in enumerate(rows)})


def test_large_segments_get_all_bits_and_the_full_margin() -> None:
    plan = plan_mark({"a.weight": (512, 512, 3, 3)})
    assert (plan.bits, plan.weights_per_bit, plan.tau) == (128, 1024, 5.0)
    assert plan.tau_text == "5.000000"


def test_small_segments_get_fewer_bits_and_less_margin() -> None:
    plan = plan_mark({"a.weight": (100, 1000)})
    assert (plan.bits, plan.tau) == (25, 4.0)


@given(SHAPES, st.sampled_from([0.001, 0.004, 0.02]))
def test_a_plan_keeps_its_distortion_and_its_error_bound_or_is_refused(
    shapes: dict[str, tuple[int, ...]], distortion: float
) -> None:
    try:
        plan = plan_mark(shapes, distortion=distortion)
    except UsageError:
        return
    weights = sum(math.prod(shapes[name]) for name in plan.eligible)
    even = sum(even_column_weights(shapes[name]) for name in plan.eligible)
    assert plan.bits * plan.tau**2 <= distortion * weights * (1 + 1e-9)
    assert plan.least_statistic >= LEAST_STATISTIC
    assert plan.bits * plan.weights_per_bit <= even
    assert plan.weights_per_bit >= 4 * plan.tau**2
    assert parse_plan_tau(plan.tau_text) == plan.tau
    assert plan.eligible == tuple(sorted(plan.eligible))


def test_only_large_kernels_and_matrices_carry() -> None:
    big = (256, 256)
    shapes = {
        "1.weight": big,
        "2.bias": big,
        "norm3.weight": big,
        "4.LayerNorm.weight": big,
        "5.weight": (70_000,),
        "6.weight": (63, 65),
        "7.weight": (70_000, 1),
        "8.attention.in_proj_weight": big,
        "9.position": big,
    }
    assert plan_mark(shapes).eligible == ("1.weight", "8.attention.in_proj_weight")


@pytest.mark.parametrize("shapes", [{}, {"1.weight": (200, 200)}, {"1.bias": (4096, 4096)}])
def test_too_small_a_segment_is_refused_with_the_number_needed(
    shapes: dict[str, tuple[int, ...]],
) -> None:
    with pytest.raises(UsageError, match=r"44423 are needed.*provenance\.marks = \"off\""):
        plan_mark(shapes)


@pytest.mark.parametrize("distortion", [0.0, -1.0, 1.0, math.nan])
def test_senseless_distortion_is_refused(distortion: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        plan_mark({"1.weight": (512, 512)}, distortion=distortion)


@pytest.mark.parametrize("text", ["5", "5.0000000", "05.000000", "-5.000000", " 5.000000", "nan"])
def test_margins_have_one_spelling(text: str) -> None:
    with pytest.raises(EvidenceError, match="margin"):
        parse_plan_tau(text)


@pytest.mark.parametrize(
    ("bits", "each", "tau", "eligible"),
    [
        (0, 64, 5.0, ("a",)),
        (16, 0, 5.0, ("a",)),
        (16, 64, 0.0, ("a",)),
        (16, 64, math.nan, ("a",)),
        (16, 64, math.pi, ("a",)),
        (16, 64, 5.0, ()),
        (16, 64, 5.0, ("a", "b", "a")),
    ],
)
def test_damaged_plans_are_refused(
    bits: int, each: int, tau: float, eligible: tuple[str, ...]
) -> None:
    with pytest.raises(EvidenceError, match="mark plan"):
        MarkPlan(bits, each, tau, eligible)


# Carriers. -------------------------------------------------------------------------------------

SMALL = {"a.weight": (6, 5, 2, 2), "b.weight": (7, 4)}
SMALL_PLAN = MarkPlan(4, 10, 1.0, ("a.weight", "b.weight"))
SEED = bytes(range(64))


def test_golden_carriers() -> None:
    """Frozen: a mark of today must be readable with every later version."""
    carriers = draw_carriers(SMALL_PLAN, SMALL, SEED)
    assert carriers.index[0].tolist() == [5, 9, 62, 58, 55, 69, 39, 6, 50, 73]
    assert carriers.sign[0].tolist() == [-1, -1, 1, -1, 1, -1, -1, 1, 1, -1]
    shapes = {"1.weight": (512, 512, 3, 3)}
    wide = draw_carriers(plan_mark(shapes), shapes, SEED)
    assert wide.index[0, :4].tolist() == [392505, 900493, 13706, 773298]
    assert wide.index[127, -4:].tolist() == [849413, 247130, 914756, 798608]
    assert int(wide.sign.sum()) == 14


def test_carriers_follow_the_written_rule() -> None:
    """The rule of the module docstring, written out one word at a time."""
    population = 6 * 3 * 4 + 7 * 2
    stream = Cipher(ChaCha20(SEED[:32], bytes(16)), mode=None).encryptor()
    chosen: list[int] = []
    while len(chosen) < 40:
        word = int.from_bytes(stream.update(bytes(8)), "little")
        if word < 2**64 - 2**64 % population and word % population not in chosen:
            chosen.append(word % population)
    coins = Cipher(ChaCha20(SEED[32:], bytes(16)), mode=None).encryptor().update(bytes(5))
    signs = [1 if coins[k // 8] >> (k % 8) & 1 else -1 for k in range(40)]
    carriers = draw_carriers(SMALL_PLAN, SMALL, SEED)
    assert carriers.index.ravel().tolist() == chosen
    assert carriers.sign.ravel().tolist() == signs


@given(st.binary(min_size=64, max_size=64))
@settings(max_examples=30)
def test_a_draw_of_everything_is_a_permutation(seed: bytes) -> None:
    plan = MarkPlan(86, 1, 1.0, ("a.weight", "b.weight"))
    assert sorted(draw_carriers(plan, SMALL, seed).index.ravel().tolist()) == list(range(86))


def test_carriers_are_spread_evenly_and_signs_are_fair() -> None:
    shapes = {"a.weight": (32, 40, 3, 3), "b.weight": (64, 100)}
    plan = MarkPlan(16, 128, 1.0, ("a.weight", "b.weight"))
    population = 32 * 20 * 9 + 64 * 50
    hits = np.zeros(population)
    total = 0
    for trial in range(200):
        carriers = draw_carriers(plan, shapes, hashlib.sha512(str(trial).encode()).digest())
        hits[carriers.index.ravel()] += 1
        total += int(carriers.sign.sum())
    share = 16 * 128 / population
    deviation = (hits - 200 * share) / math.sqrt(200 * share * (1 - share))
    assert abs(float((deviation**2).mean()) - 1) < 0.06
    assert abs(total) < 4 * math.sqrt(200 * 16 * 128)


@given(SHAPES)
@settings(max_examples=30, deadline=None)
def test_carriers_lie_in_even_columns_and_each_weight_once(
    shapes: dict[str, tuple[int, ...]],
) -> None:
    shapes = {name: shape for name, shape in shapes.items() if shape[1] > 1}
    eligible = tuple(shapes)
    numbers = np.arange(sum(even_column_weights(shape) for shape in shapes.values()))
    seen = 0
    for placement in place_in_columns(eligible, shapes, numbers[::-1]):
        shape = shapes[placement.name]
        channel, column, *_ = np.unravel_index(placement.weight, shape)
        assert not np.any(column % 2)
        assert np.array_equal(channel, placement.channel)
        assert len(set(placement.weight.tolist())) == even_column_weights(shape)
        # Numbered tensor by tensor in C order, as given from the last to the first.
        assert np.array_equal(
            numbers[::-1][placement.carrier], seen + np.argsort(np.argsort(placement.weight))
        )
        seen += even_column_weights(shape)
    assert seen == numbers.size


def test_a_plan_that_does_not_fit_the_segment_is_refused() -> None:
    with pytest.raises(EvidenceError, match="do not fit"):
        draw_carriers(MarkPlan(87, 1, 1.0, ("a.weight", "b.weight")), SMALL, SEED)
    with pytest.raises(EvidenceError, match=r"no matrix or kernel named 'c\.weight'"):
        draw_carriers(MarkPlan(1, 1, 1.0, ("a.weight", "c.weight")), SMALL, SEED)
    with pytest.raises(EvidenceError, match=r"no matrix or kernel named 'v\.weight'"):
        draw_carriers(MarkPlan(1, 1, 1.0, ("v.weight",)), {"v.weight": (512,)}, SEED)

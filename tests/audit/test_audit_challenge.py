"""The draw is uniform, bound to the ledger, and finds bad stages as often as the formula says."""

from __future__ import annotations

import itertools
from collections import Counter
from hashlib import sha256

import pytest
from cheats import claim_of
from scipy.stats import binom, chi2
from stage import Case, train

from clicooper_hpc.audit.challenge import (
    challenge_detection_probability,
    challenge_stages_needed,
    draw_challenge,
)
from clicooper_hpc.audit.verdict import StageOutcome, exact_verdict
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.training.run_plan import plan_stage_bounds

pytestmark = pytest.mark.usefixtures("one_thread")

SECRET = bytes(range(32))
ROOT = sha256(b"ledger").digest()


def root(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


def test_the_draw_is_what_it_has_always_been() -> None:
    assert draw_challenge(SECRET, ROOT, 100, 7) == [56, 47, 36, 44, 72, 39, 43]
    assert draw_challenge(SECRET, ROOT, 1, 1) == [0]


def test_a_draw_has_each_stage_once_and_begins_with_every_shorter_one() -> None:
    whole = draw_challenge(SECRET, ROOT, 30, 30)
    assert sorted(whole) == list(range(30))
    for count in range(1, 30):
        assert draw_challenge(SECRET, ROOT, 30, count) == whole[:count]


def test_it_depends_on_secret_ledger_and_number_of_stages() -> None:
    first = draw_challenge(SECRET, ROOT, 1000, 20)
    for other in (
        draw_challenge(SECRET[::-1], ROOT, 1000, 20),
        draw_challenge(SECRET, root(0), 1000, 20),
        draw_challenge(SECRET, ROOT, 1001, 20),
    ):
        assert len(set(first) & set(other)) < 5


def test_every_stage_and_every_pair_is_drawn_equally_often() -> None:
    """Chi-squared over 6000 draws of 3 of 7 stages; fails by chance once in 10**9."""
    draws = [draw_challenge(SECRET, root(number), 7, 3) for number in range(6000)]
    for position in range(3):
        counts = Counter(stages[position] for stages in draws)
        expected = 6000 / 7
        statistic = sum((counts[s] - expected) ** 2 / expected for s in range(7))
        assert statistic < chi2.isf(1e-9, 6)
    pairs = Counter(
        frozenset(pair) for stages in draws for pair in itertools.combinations(stages, 2)
    )
    expected = 6000 * 3 / 21
    assert len(pairs) == 21
    # Pairs of one draw hang together, which makes the statistic smaller, not larger.
    assert sum((n - expected) ** 2 / expected for n in pairs.values()) < chi2.isf(1e-9, 20)


@pytest.mark.parametrize(
    ("secret", "ledger", "stages", "count"),
    [
        (b"short", ROOT, 5, 1),
        (SECRET, b"short", 5, 1),
        (SECRET, ROOT, 5, 6),
        (SECRET, ROOT, 5, 0),
        (SECRET, ROOT, 0, 0),
    ],
)
def test_what_is_no_challenge_is_refused(
    secret: bytes, ledger: bytes, stages: int, count: int
) -> None:
    with pytest.raises(ValueError, match=r"challenge|draw"):
        draw_challenge(secret, ledger, stages, count)


@pytest.mark.parametrize("stages", [1, 2, 5, 8])
def test_the_formula_is_the_count_of_all_draws(stages: int) -> None:
    for bad, count in itertools.product(range(stages + 1), repeat=2):
        draws = list(itertools.combinations(range(stages), count))
        hits = sum(any(stage < bad for stage in chosen) for chosen in draws)
        assert challenge_detection_probability(bad, stages, count) == hits / len(draws)


def test_how_many_stages_to_draw() -> None:
    assert challenge_stages_needed(50, 100, 0.99) == 7
    assert [challenge_stages_needed(bad, 100, 0.99) for bad in (25, 10, 5, 1)] == [15, 36, 59, 99]
    assert challenge_stages_needed(1, 10, 1.0) == 10
    for bad in (1, 3, 10):
        count = challenge_stages_needed(bad, 40, 0.9)
        assert challenge_detection_probability(bad, 40, count) >= 0.9
        assert challenge_detection_probability(bad, 40, count - 1) < 0.9


class Lazy(SegmentRuntime):
    """Leaves out every second update."""

    def _update(self, step: int, learning_rate: float, report: StepReport) -> None:
        if step % 2:
            super()._update(step, learning_rate, report)
        else:
            self._global_squared_norm(step)


def test_200_challenges_find_real_cheats_as_often_as_the_formula_says() -> None:
    """20 stages are really trained, 4 of them not honestly, and really audited."""
    case = Case(epochs=8)
    steps = case.steps()
    bounds = plan_stage_bounds(len(steps), 20)
    bad = {3, 8, 9, 17}
    states = None
    failing = set()
    for stage, (first, last) in enumerate(itertools.pairwise(bounds)):
        part = steps[first:last]
        recorded = train(case, part, states, {2: Lazy} if stage in bad else {})
        verdict = exact_verdict(train(case, part, states), claim_of(recorded))
        if verdict.outcome is not StageOutcome.EXACT:
            assert verdict.at_fault == (2,)
            failing.add(stage)
        states = recorded.states
    assert failing == bad
    for count in (2, 5, 10):
        hits = sum(
            not failing.isdisjoint(draw_challenge(SECRET, root(number), 20, count))
            for number in range(200)
        )
        wanted = challenge_detection_probability(len(bad), 20, count)
        print(f"{count} of 20 stages drawn: found {hits / 200:.3f}, formula {wanted:.3f}")
        assert binom.cdf(hits, 200, wanted) > 1e-4
        assert binom.sf(hits - 1, 200, wanted) > 1e-4

"""Growth without bound is noticed against what came before; honest growth is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from clicooper_hpc.transport.growth_watch import GROWTH_LIMIT, Growth, GrowthWatch


def noticed(magnitudes: Iterable[float]) -> list[tuple[int, Growth]]:
    watch = GrowthWatch()
    found = ((step, watch.note_magnitude(one, step)) for step, one in enumerate(magnitudes))
    return [(step, growth) for step, growth in found if growth is not None]


def test_a_jump_is_noticed_at_once_and_told_once() -> None:
    said = noticed([1.0] * 20 + [1e6] * 200)
    assert said == [(20, Growth(1e6, since=15, first=16))]


def test_a_second_jump_is_told_again() -> None:
    assert [step for step, _ in noticed([1.0] * 9 + [1e4] * 9 + [1e8] * 9)] == [9, 18]


@pytest.mark.parametrize("factor", [3.0, 2.0, 1.1, 1.01])
def test_every_geometric_growth_is_noticed(factor: float) -> None:
    steps = range(3000 if factor < 1.1 else 400)
    assert noticed(min(factor**step, 1e300) for step in steps)


@pytest.mark.parametrize(
    "honest",
    [
        lambda step: 1.0,
        lambda step: 1e-6 * step,  # a layer that begins at zero, warmed up
        lambda step: 1e-9 * step**3,
        lambda step: 100.0 / (1 + step),
        lambda step: 1e-12 if step % 7 else 5.0,  # micro-batches that are all learnt
        lambda step: 0.0 if step < 50 else 3.0,
        lambda step: 3.0 - 2.9 * 0.99**step,
    ],
)
def test_growth_that_ends_or_slows_is_not(honest: Callable[[int], float]) -> None:
    assert not noticed(map(honest, range(5000)))


def test_just_below_the_limit_is_not() -> None:
    assert not noticed([1.0] * 8 + [GROWTH_LIMIT] * 8)
    assert noticed([1.0] * 8 + [1.001 * GROWTH_LIMIT])


def test_the_first_messages_have_nothing_to_be_compared_with() -> None:
    assert not noticed([1.0, 1e9, 1.0])
    watch = GrowthWatch(settling=1)
    assert watch.note_magnitude(1.0, 0) is None
    assert watch.note_magnitude(1e6, 4) == Growth(1e6, since=0, first=1)

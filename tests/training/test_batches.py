"""Batches: their order is deterministic, complete, never changed by accident; micro-batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clicooper_hpc.training.batches import (
    EpochOrder,
    count_batches,
    order_epoch_batches,
    split_batch_rows,
)

LABELS = np.array([2, 0, 1, 1, 0, 2, 2, 1, 2, 2], dtype=np.int32)
GOLDEN_PLAIN = [[[0], [9], [7], [5]], [[4], [2], [3], [6]], [[1], [8]]]
GOLDEN_PAIRS = [[[4, 1], [6, 5], [0, 8], [3, 2]], [[5, 9], [2, 7]]]


def ids_of(order: EpochOrder) -> list[list[list[int]]]:
    return [batch.ids.tolist() for batch in order.batches]


def flat(order: EpochOrder) -> list[int]:
    return [int(one) for batch in order.batches for one in batch.ids.reshape(-1)]


def make(seed: int = 7, epoch: int = 0, batch_size: int = 4, average_rows: int = 1) -> EpochOrder:
    return order_epoch_batches(
        seed=seed,
        epoch=epoch,
        sub_labels=LABELS,
        batch_size=batch_size,
        average_rows=average_rows,
    )


def test_golden_order_without_averaging() -> None:
    """Recorded runs replay with this order: it must never change."""
    assert ids_of(make()) == GOLDEN_PLAIN
    assert [batch.sub_labels.tolist() for batch in make().batches] == [
        LABELS[np.array(batch)[:, 0]].tolist() for batch in GOLDEN_PLAIN
    ]


def test_golden_order_with_averaging() -> None:
    """Recorded runs replay with this order: it must never change."""
    assert ids_of(make(average_rows=2)) == GOLDEN_PAIRS


@st.composite
def label_vectors(draw: st.DrawFn) -> NDArray[np.int32]:
    names = draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    return np.array(names, dtype=np.int32)


@settings(max_examples=100, deadline=None)
@given(
    labels=label_vectors(),
    batch_size=st.integers(1, 12),
    average_rows=st.integers(1, 5),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
)
def test_every_epoch_is_complete_and_well_formed(
    labels: NDArray[np.int32], batch_size: int, average_rows: int, seed: int, epoch: int
) -> None:
    order = order_epoch_batches(
        seed=seed,
        epoch=epoch,
        sub_labels=labels,
        batch_size=batch_size,
        average_rows=average_rows,
    )
    count = count_batches(sub_labels=labels, batch_size=batch_size, average_rows=average_rows)
    assert len(order.batches) == count
    assert [len(batch.ids) for batch in order.batches[:-1]] == [batch_size] * (count - 1)
    assert 1 <= len(order.batches[-1].ids) <= batch_size
    for batch in order.batches:
        assert batch.ids.shape == (len(batch.sub_labels), average_rows)
        assert batch.ids.dtype == np.int64
        assert batch.sub_labels.dtype == np.int32
        # All samples of a group carry the group's sub-label.
        assert (labels[batch.ids] == batch.sub_labels[:, np.newaxis]).all()

    uses = Counter(flat(order))
    assert set(uses) == set(range(len(labels)))
    for name, samples in Counter(labels.tolist()).items():
        groups = -(-samples // average_rows)
        used = [uses[i] for i in np.flatnonzero(labels == name).tolist()]
        assert sum(used) == groups * average_rows
        assert max(used) - min(used) <= 1  # the wrap-around is spread evenly


def test_groups_without_remainder_use_each_id_once() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), 6)
    order = order_epoch_batches(seed=1, epoch=2, sub_labels=labels, batch_size=4, average_rows=3)
    assert sorted(flat(order)) == list(range(18))


def test_wrap_around_starts_with_the_first_id_of_the_shuffled_sub_label() -> None:
    labels = np.zeros(5, dtype=np.int32)
    whole = order_epoch_batches(seed=3, epoch=0, sub_labels=labels, batch_size=9, average_rows=10)
    (batch,) = whole.batches
    (group,) = batch.ids.tolist()
    assert sorted(group[:5]) == list(range(5))
    assert group[5:] == group[:5]  # fewer than k samples: around more than once


def test_order_depends_on_seed_and_epoch_alone() -> None:
    base = flat(make())
    assert flat(make()) == base
    assert flat(make(batch_size=3)) == base
    assert flat(make(seed=8)) != base
    assert flat(make(epoch=1)) != base
    # Seed and epoch are kept apart: (1, 23) and (12, 3) are different orders.
    assert flat(make(seed=1, epoch=23)) != flat(make(seed=12, epoch=3))


def test_sub_labels_do_not_move_samples_unless_rows_are_averaged() -> None:
    other = np.roll(LABELS, 3)
    order = order_epoch_batches(seed=7, epoch=0, sub_labels=other, batch_size=4, average_rows=1)
    assert flat(order) == flat(make())


def test_numpy_global_state_plays_no_part() -> None:
    before = flat(make(average_rows=2))
    np.random.seed(0)  # noqa: NPY002
    np.random.random(5)  # noqa: NPY002
    assert flat(make(average_rows=2)) == before


def test_shuffles_are_fair() -> None:
    # First place over 3000 epochs of 10 ids: 300 each, standard deviation 16.
    first = Counter(flat(make(epoch=epoch))[0] for epoch in range(3000))
    assert len(first) == 10
    assert all(220 < count < 380 for count in first.values())


def test_batches_cannot_be_changed() -> None:
    batch = make().batches[0]
    with pytest.raises(ValueError, match="read-only"):
        batch.ids[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        batch.sub_labels[0] = 1


@pytest.mark.parametrize(
    ("labels", "batch_size", "average_rows", "message"),
    [
        (np.zeros(0, dtype=np.int32), 1, 1, "filled vector"),
        (np.zeros((2, 2), dtype=np.int32), 1, 1, "filled vector"),
        (np.array([0, -1], dtype=np.int32), 1, 1, "none below 0"),
        (np.zeros(3), 1, 1, "must be integers"),
        (np.zeros(3, dtype=np.int32), 0, 1, "must be >= 1"),
        (np.zeros(3, dtype=np.int32), 1, 0, "must be >= 1"),
    ],
)
def test_impossible_orders_are_refused(
    labels: NDArray[np.int32], batch_size: int, average_rows: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        count_batches(sub_labels=labels, batch_size=batch_size, average_rows=average_rows)
    with pytest.raises(ValueError, match=message):
        order_epoch_batches(
            seed=0,
            epoch=0,
            sub_labels=labels,
            batch_size=batch_size,
            average_rows=average_rows,
        )


@pytest.mark.parametrize(
    ("rows", "parts", "sizes"),
    [
        (8, 4, [2, 2, 2, 2]),
        (10, 4, [3, 3, 3, 1]),
        (5, 4, [2, 2, 1]),  # a fourth part would be empty
        (3, 8, [1, 1, 1]),
        (7, 1, [7]),
        (0, 3, []),
    ],
)
def test_sizes_of_micro_batches(rows: int, parts: int, sizes: list[int]) -> None:
    assert [len(part) for part in split_batch_rows(rows, parts)] == sizes


@given(rows=st.integers(0, 500), parts=st.integers(1, 60))
def test_micro_batches_are_contiguous_even_and_never_empty(rows: int, parts: int) -> None:
    split = split_batch_rows(rows, parts)
    assert [row for part in split for row in part] == list(range(rows))
    assert len(split) <= min(parts, rows)
    if rows:
        size = max(map(len, split))
        assert size == -(-rows // parts)
        assert all(len(part) == size for part in split[:-1])
        assert 1 <= len(split[-1]) <= size


@pytest.mark.parametrize(("rows", "parts"), [(-1, 2), (4, 0)])
def test_impossible_splits_are_refused(rows: int, parts: int) -> None:
    with pytest.raises(ValueError, match="cannot split"):
        split_batch_rows(rows, parts)

"""Cutting a batch into micro-batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.training.microbatch import split_rows


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
def test_sizes(rows: int, parts: int, sizes: list[int]) -> None:
    assert [len(part) for part in split_rows(rows, parts)] == sizes


@given(rows=st.integers(0, 500), parts=st.integers(1, 60))
def test_parts_are_contiguous_even_and_never_empty(rows: int, parts: int) -> None:
    split = split_rows(rows, parts)
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
        split_rows(rows, parts)

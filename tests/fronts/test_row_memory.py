"""Rows that were computed before are not computed again, and are the same to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from front_cases import random_rows
from plain_operation import PlainOperation

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.build_front import FrontBase, ProjectionData, build_front
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.projection import Projection, PublicRows

SHAPE = (3, 16, 16)
PUBLIC, OTHER = random_rows(90, SHAPE), random_rows(120, SHAPE)[90:]


@pytest.fixture(scope="module")
def front() -> Front:
    """Random convolutions and a PCA fitted on the public rows, scaled."""
    public = PublicRows(PUBLIC, None, digest_bytes("t", b"a"), "public")
    return build_front(
        FrontBase(kind="random", input_shape=SHAPE, dim=9),
        projection=ProjectionData(Projection("pca", 9), public, digest_bytes("t", b"b")),
        normalise=1.0,
    )


@dataclass(frozen=True)
class Counting(PlainOperation):
    """An operation that counts the blocks it is given."""

    calls: list[int] = field(default_factory=list)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        return x


def test_a_fitted_front_remembers_its_public_rows_to_the_bit(front: Front) -> None:
    fresh = replace(front, memory=None)
    x = np.concatenate([OTHER[:5], PUBLIC[3:80], OTHER[5:], PUBLIC[:1], PUBLIC[:1]])
    for rows in (x, PUBLIC, OTHER, x[:0]):
        assert front.apply(rows).tobytes() == fresh.apply(rows).tobytes()
    assert front == fresh
    assert not any("memory" in name for name in front.front_tensors())


def test_remembered_rows_do_not_go_through_the_front_again(front: Front) -> None:
    count = Counting()
    watched = replace(front, operations=(count, *front.operations))
    watched = watched.remember_rows(PUBLIC, front.apply(PUBLIC), len(watched.operations))
    watched.apply(PUBLIC)
    assert count.calls == []
    watched.apply(np.concatenate([PUBLIC, OTHER]))
    assert sum(count.calls) == front.block_rows


def test_rows_it_cannot_take_are_refused_as_ever(front: Front) -> None:
    with pytest.raises(DataError, match="rows are float64"):
        front.apply(PUBLIC.astype(np.float64))
    broken = PUBLIC.copy()
    broken[4, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="front input"):
        front.apply(broken)

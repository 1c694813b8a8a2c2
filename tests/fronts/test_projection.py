"""Projections are fitted on public rows, deterministic, and say when they are not public."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from front_cases import random_rows

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import FrontBase, ProjectionData, build_front
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.projection import (
    Projection,
    PublicRows,
    count_shared_rows,
    fit_projection,
)

PUBLIC, PRIVATE = digest_bytes("t", b"public"), digest_bytes("t", b"private")
SHAPE = (12,)


def public(shared: int = 0) -> PublicRows:
    rng = np.random.default_rng(1)
    labels = np.arange(400) % 8
    centres = rng.random((8, 12))
    rows = centres[labels] + rng.normal(size=(400, 12)) * np.linspace(0.05, 0.4, 12)
    return PublicRows(rows.clip(0, 1).astype(np.float32), labels, PUBLIC, "pub/train", shared)


def front(wanted: Projection, private: Digest | None = PRIVATE, shared: int = 0) -> Front:
    return build_front(
        FrontBase(kind="identity", input_shape=SHAPE),
        projection=ProjectionData(wanted, public(shared), private_fingerprint=private),
    )


@pytest.mark.parametrize("method", ["pca", "lda"])
@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_whitening_flattens_the_public_variances_by_its_exponent(
    method: Literal["pca", "lda"], whiten: float
) -> None:
    plain = front(Projection(method, 5, 0.0)).apply(public().rows).astype(np.float64).var(axis=0)
    made = front(Projection(method, 5, whiten)).apply(public().rows).astype(np.float64).var(axis=0)
    assert np.allclose(made, plain ** (1 - whiten), rtol=1e-4)


def test_pca_is_pca() -> None:
    """Against the eigenvectors of the covariance, up to the fixed sign."""
    rows = public().rows.astype(np.float64)
    vectors = np.linalg.eigh(np.cov(rows.T))[1]
    want = (rows - rows.mean(0)) @ vectors[:, ::-1][:, :4]
    got = front(Projection("pca", 4, 0.0)).apply(public().rows)
    assert np.allclose(np.abs(got), np.abs(want), atol=1e-5)


def test_signs_are_fixed_and_a_second_fit_gives_the_same_digest() -> None:
    features = public().rows
    linear = fit_projection(features, public().labels, Projection("lda", 4))
    matrix = linear.matrix.numpy()
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(4)] > 0).all()
    for wanted in (Projection("pca", 6), Projection("lda", 4)):
        assert front(wanted).digest == front(wanted).digest
    assert front(Projection("pca", 6)).digest != front(Projection("pca", 6, 0.4)).digest


def test_other_public_rows_give_another_front_and_private_rows_none() -> None:
    """The front is a function of public rows alone: private rows pass through it unchanged."""
    made = front(Projection("pca", 3))
    before = made.digest
    made.apply(random_rows(10, SHAPE))
    assert front(Projection("pca", 3)).digest == before


def test_provenance_names_what_was_fitted_on_what() -> None:
    origin = front(Projection("pca", 3)).origin
    assert not origin.conditional
    assert origin.projection is not None
    assert "PCA to 3" in origin.projection
    assert "400 rows of pub/train" in origin.projection


@pytest.mark.parametrize(
    ("private", "shared", "says"),
    [
        (PUBLIC, 0, "private data itself"),
        (None, 0, "not compared"),
        (PRIVATE, 7, "7 rows of pub/train are private"),
    ],
)
def test_a_projection_that_may_have_seen_private_rows_is_conditional(
    private: Digest | None, shared: int, says: str
) -> None:
    origin = front(Projection("pca", 3), private, shared).origin
    assert origin.conditional
    assert says in (origin.reason or "")


def test_shared_rows_are_found_in_any_order() -> None:
    rows = random_rows(30, SHAPE)
    blocks = [random_rows(10, SHAPE, seed=9), rows[[5, 3]], rows[20:22]]
    assert count_shared_rows(rows, blocks) == 4
    assert count_shared_rows(rows, []) == 0


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        (Projection("pca", 13), UsageError, "cannot be made of 12"),
        (Projection("lda", 8), UsageError, "8 public classes gives at most 7"),
    ],
)
def test_impossible_dimensions_are_refused(
    wanted: Projection, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        front(wanted)


def test_public_rows_that_cannot_carry_the_fit_are_refused() -> None:
    rows = public().rows
    with pytest.raises(DataError, match="too few"):
        fit_projection(rows[:5], None, Projection("pca", 5))
    flat = np.repeat(rows[:, :2], 6, axis=1)
    with pytest.raises(DataError, match="fewer than 5 directions"):
        fit_projection(flat, None, Projection("pca", 5))
    with pytest.raises(UsageError, match="one public label"):
        fit_projection(rows, None, Projection("lda", 3))
    with pytest.raises(UsageError, match="public data"):
        build_front(
            FrontBase(kind="identity", input_shape=SHAPE),
            projection=ProjectionData(Projection("pca", 2), None),
        )


@pytest.mark.parametrize(
    ("method", "dim", "whiten"), [("ica", 2, 0.5), ("pca", 0, 0.5), ("pca", 2, 1.5)]
)
def test_impossible_projections_cannot_be_asked_for(method: str, dim: int, whiten: float) -> None:
    with pytest.raises(UsageError):
        Projection(method, dim, whiten)  # type: ignore[arg-type]


def test_public_rows_keep_their_numbers_out_of_a_repr() -> None:
    assert repr(public()) == "PublicRows(name='pub/train', rows=400)"

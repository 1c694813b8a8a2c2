"""Rows that stand in for samples: the same for the same number, with the moments of the table."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.owner.synthetic_rows import mixed_rows

TABLE = np.random.default_rng(0).normal(1.0, 2.0, size=(5000, 3)).astype(np.float32)
CENTRE = TABLE.mean(axis=0, dtype=np.float64)


def test_the_first_rows_are_those_of_the_table() -> None:
    found = mixed_rows(TABLE, CENTRE, np.array([7, 0, 4999]))
    assert np.array_equal(found, TABLE[[7, 0, 4999]])
    found[:] = 0
    assert TABLE[7].any()


def test_a_row_depends_on_its_number_alone() -> None:
    ids = np.random.default_rng(1).permutation(20_000)[:500]
    together = mixed_rows(TABLE, CENTRE, ids)
    alone = [mixed_rows(TABLE, CENTRE, ids[i : i + 1])[0] for i in range(500)]
    assert np.array_equal(together, np.stack(alone))


def test_mixes_have_mean_and_covariance_of_the_table_and_are_other_rows() -> None:
    mixes = mixed_rows(TABLE, CENTRE, np.arange(5000, 20_000))
    assert np.allclose(mixes.mean(axis=0), CENTRE, atol=0.1)
    assert np.allclose(np.cov(mixes.T), np.cov(TABLE.T), atol=0.2)
    assert len(np.unique(np.concatenate([TABLE, mixes]), axis=0)) == 20_000


def test_the_numbers_of_the_mixes_never_change() -> None:
    """A restart under another version of NumPy must release the same rows."""
    table = np.eye(4, dtype=np.float32)
    found = mixed_rows(table, np.full(4, 0.25), np.array([4, 9]))
    assert np.allclose(found, KNOWN, atol=1e-6)


KNOWN = [[0.999978, -2.2e-05, -2.2e-05, 6.7e-05], [-0.069349, 0.872769, -0.069349, 0.26593]]

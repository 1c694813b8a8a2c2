from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from clicooper_hpc.attacks.labels_informed import by_answers, by_rows
from clicooper_hpc.attacks.labels_variants import merge_variants

K, GAMMA, WIDTH = 5, 60, 12
RNG = np.random.default_rng(0)
MEANS = RNG.normal(size=(K, WIDTH))
OWNER = np.arange(K * GAMMA) // GAMMA


def drawn(count: int, noise: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, count)
    return (MEANS[classes] + noise * rng.normal(size=(count, WIDTH))).astype(np.float32), classes


def ari(scores: NDArray[np.float64]) -> float:
    return float(adjusted_rand_score(OWNER, scores.argmax(axis=1)))


@pytest.mark.parametrize(("noise", "least"), [(0.5, 0.97), (6.0, 0.05)])
def test_labelled_rows_name_what_no_grouping_finds(noise: float, least: float) -> None:
    rows, classes = drawn(1200, noise, 1)
    names = (classes * GAMMA + np.random.default_rng(2).integers(0, GAMMA, 1200)).astype(np.int32)
    clean, known = drawn(200, 0.5, 3)
    found = ari(by_rows(rows, names, K * GAMMA, clean, known, K, (noise**2 - 0.25) ** 0.5))
    blind = merge_variants(rows, names, GAMMA, K, noise, scale=0.1)
    best = max(adjusted_rand_score(OWNER, group) for group in blind.values())
    assert found >= least
    assert found >= best - 0.02


def test_labelled_rows_of_pure_noise_are_no_better_than_chance() -> None:
    rows = np.random.default_rng(4).normal(size=(1200, WIDTH)).astype(np.float32)
    names = np.random.default_rng(5).integers(0, K * GAMMA, 1200).astype(np.int32)
    clean, known = drawn(200, 0.5, 3)
    assert abs(ari(by_rows(rows, names, K * GAMMA, clean, known, K, 1.0))) < 0.03


def test_wide_rows_are_judged_along_their_principal_axes() -> None:
    rng = np.random.default_rng(6)
    lift = np.linalg.qr(rng.normal(size=(1200, WIDTH)))[0].T.astype(np.float32)
    rows, classes = drawn(900, 0.5, 7)
    names = (classes * GAMMA + rng.integers(0, GAMMA, 900)).astype(np.int32)
    clean, known = drawn(200, 0.5, 8)
    assert ari(by_rows(rows @ lift, names, K * GAMMA, clean @ lift, known, K, 0.1)) > 0.8


def test_answers_to_labelled_images_name_the_sub_labels_of_a_network() -> None:
    clean, known = drawn(100, 0.5, 9)
    weights = MEANS[OWNER] + 0.1 * np.random.default_rng(10).normal(size=(K * GAMMA, WIDTH))
    assert ari(by_answers((clean @ weights.T).astype(np.float32), known, K)) > 0.95
    blank = np.random.default_rng(11).normal(size=(100, K * GAMMA)).astype(np.float32)
    assert abs(ari(by_answers(blank, known, K))) < 0.03

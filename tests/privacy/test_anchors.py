from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from clicooper_hpc.errors import DataError
from clicooper_hpc.privacy.anchors import Anchors, fit_anchors, summarise_for_anchors
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey


def rows_of_classes(
    separation: float, *, count: int = 6, rows: int = 9000, width: int = 12
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    classes = np.arange(rows) % count
    means = np.zeros((count, width))
    means[:, : count - 1] = rng.normal(size=(count, count - 1))
    means *= separation / np.linalg.norm(means - means.mean(0), axis=1).mean()
    return (means[classes] + rng.normal(size=(rows, width))).astype(np.float32), classes


def leak(rows: NDArray[np.float32], names: NDArray[np.int64], gamma: int, count: int = 6) -> float:
    """ARI of k-means on mean rows, with and without the means of equally placed names taken off."""
    used = np.unique(names)
    means = np.stack([rows[names == name].mean(axis=0) for name in used])
    truth = used // gamma
    found = [KMeans(count, n_init=10, random_state=0).fit_predict(means)]
    cells = used % gamma
    centres = np.stack([means[cells == cell].mean(axis=0) for cell in range(gamma)])
    found.append(KMeans(count, n_init=10, random_state=0).fit_predict(means - centres[cells]))
    return max(float(adjusted_rand_score(truth, each)) for each in found)


def test_anchors_hide_classes_that_random_names_and_common_cells_give_away() -> None:
    rows, classes = rows_of_classes(1.5)
    gamma = 16
    random = np.random.default_rng(1).integers(gamma, size=len(rows))
    common = KMeans(gamma, n_init=2, random_state=0).fit_predict(rows)
    own = fit_anchors(rows, classes, 6, gamma, 0).assign_anchors(rows, classes)
    assert leak(rows, classes * gamma + random, gamma) > 0.95
    # The attacker is told which names share a cell; the mean of each cell taken off, classes show.
    assert leak(rows, classes * gamma + common, gamma) > 0.6
    assert leak(rows, classes * gamma + own, gamma) < 0.15


def test_classes_do_not_share_cells() -> None:
    rows, classes = rows_of_classes(1.0)
    anchors = fit_anchors(rows, classes, 6, 8, 3)
    by_class = [anchors.assign_anchors(rows, np.full(len(rows), k)) for k in range(6)]
    for one in range(6):
        for other in range(one):
            assert adjusted_rand_score(by_class[one], by_class[other]) < 0.35


def test_nearest_anchor_in_integers_with_the_lower_number_on_a_tie() -> None:
    places = np.array([[[0, 0], [2, 0], [2, 0]], [[9, 0], [0, 9], [0, 9]]])
    anchors = Anchors(np.eye(2, dtype=np.int64), 0, places, step=0.5)
    rows = np.array([[0.5, 0.0], [1.0, 0.1], [0.0, 3.0], [1e30, 0.0]], dtype=np.float32)
    assert anchors.assign_anchors(rows, np.array([0, 0, 1, 1])).tolist() == [0, 1, 1, 0]


def test_sums_of_products_are_exact_whatever_their_order() -> None:
    rows, classes = rows_of_classes(1.0, rows=2000)
    anchors = fit_anchors(rows * 1000, classes, 6, 4, 0)
    largest = 2**16 * int(np.abs(anchors.directions).sum(axis=0).max())
    assert largest < 2**53
    assert int(np.abs(anchors.anchors).max()) <= 2**15


def test_maps_are_summarised_over_tiles() -> None:
    maps = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    tiles = summarise_for_anchors(maps)
    assert tiles.shape == (2, 12)
    assert tiles[0, :4].tolist() == [
        float(maps[0, 0, i : i + 2, j : j + 2].sum()) for i in (0, 2) for j in (0, 2)
    ]
    assert summarise_for_anchors(np.zeros((5, 7), dtype=np.float32)).shape == (5, 7)
    assert summarise_for_anchors(np.ones((1, 2, 1, 3), dtype=np.float32)).tolist() == [[1, 1, 1, 1]]


def test_the_anchors_are_secret_and_come_from_the_key() -> None:
    rows, classes = rows_of_classes(1.0, rows=2000)
    names = [
        LabelMap.draw_label_map("anchors", 6, 4, MasterKey.from_seed(seed))
        .with_anchors(rows, classes)
        .map_to_sub_labels(classes, np.arange(2000), rows, split="train")
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(names[0], names[1])
    assert np.mean(names[0] == names[2]) < 0.4


def test_anchors_that_cannot_be_are_refused() -> None:
    rows, classes = rows_of_classes(1.0, rows=60)
    with pytest.raises(DataError, match="too few"):
        fit_anchors(rows, classes, 6, 10, 0)
    with pytest.raises(DataError, match="too few"):
        fit_anchors(rows, np.zeros(60, dtype=np.int64), 6, 2, 0)
    with pytest.raises(DataError, match="the most is 4096"):
        fit_anchors(np.zeros((60, 5000), dtype=np.float32), classes, 6, 2, 0)
    with pytest.raises(ValueError, match="no anchors"):
        LabelMap.draw_label_map("random", 6, 4, MasterKey.from_seed(1)).with_anchors(rows, classes)
    unfitted = LabelMap.draw_label_map("anchors", 6, 4, MasterKey.from_seed(1))
    assert not unfitted.ready
    with pytest.raises(ValueError, match="fitted anchors"):
        unfitted.map_to_sub_labels(classes, np.arange(60), rows, split="train")
    with pytest.raises(ValueError, match="12 numbers"):
        fit_anchors(rows, classes, 6, 2, 0).assign_anchors(rows[:, :5], classes)

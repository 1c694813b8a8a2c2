from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare

from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.label_map import LabelMap, LabelMethod
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.permutation import permutation_of_samples, secret_permutation

KEY = MasterKey.from_seed(9)
ROWS = np.random.default_rng(0).normal(size=(3000, 12)).astype(np.float32)
IDS = np.arange(3000)
CLASSES = np.random.default_rng(1).integers(0, 5, 3000)


def made(method: LabelMethod, classes: int = 5, expansion: int = 4) -> LabelMap:
    label_map = LabelMap.draw_label_map(method, classes, 1 if method == "none" else expansion, KEY)
    if method == "anchors":
        return label_map.with_anchors(ROWS, CLASSES)
    return label_map


@pytest.mark.parametrize("method", ["none", "random", "anchors"])
def test_the_owner_finds_every_class_again(method: LabelMethod) -> None:
    label_map = made(method)
    names = label_map.map_to_sub_labels(CLASSES, IDS, ROWS, split="train")
    assert names.dtype == np.int32
    assert 0 <= names.min() <= names.max() < label_map.num_sub_labels
    assert np.array_equal(label_map.map_to_classes(names), CLASSES)
    assert len(np.unique(names)) == label_map.num_sub_labels


@pytest.mark.parametrize("method", ["none", "random", "anchors"])
def test_a_stored_map_names_the_same(method: LabelMethod) -> None:
    label_map = made(method)
    again = LabelMap.from_private_bytes(label_map.to_private_bytes())
    assert np.array_equal(
        again.map_to_sub_labels(CLASSES, IDS, ROWS, split="train"),
        label_map.map_to_sub_labels(CLASSES, IDS, ROWS, split="train"),
    )
    assert again.ready
    assert again.to_private_bytes() == label_map.to_private_bytes()


@pytest.mark.parametrize("method", ["random", "anchors"])
def test_a_sample_has_one_name_in_any_batch_and_order(method: LabelMethod) -> None:
    label_map = made(method)
    whole = label_map.map_to_sub_labels(CLASSES, IDS, ROWS, split="train")
    order = np.random.default_rng(2).permutation(3000)
    parts = [
        label_map.map_to_sub_labels(CLASSES[part], IDS[part], ROWS[part], split="train")
        for part in np.split(order, 60)
    ]
    assert np.array_equal(np.concatenate(parts), whole[order])


@pytest.mark.parametrize("method", ["none", "random", "anchors"])
def test_every_name_belongs_to_one_class(method: LabelMethod) -> None:
    label_map = made(method)
    names = label_map.names_of_classes()
    assert names.shape == (label_map.num_classes, label_map.expansion)
    owners = np.repeat(np.arange(label_map.num_classes), label_map.expansion)
    assert np.array_equal(label_map.map_to_classes(names.reshape(-1).astype(np.int32)), owners)


def test_random_names_are_uniform_and_differ_between_splits() -> None:
    label_map = made("random", classes=1, expansion=7)
    zeros = np.zeros(3000, dtype=np.int64)
    train = label_map.map_to_sub_labels(zeros, IDS, split="train")
    test = label_map.map_to_sub_labels(zeros, IDS, split="test")
    assert chisquare(np.bincount(train, minlength=7)).pvalue > 1e-4
    assert 0.1 < np.mean(train == test) < 0.19  # chance is 1/7


def test_permutation_is_uniform_over_all_orders() -> None:
    orders = {order: i for i, order in enumerate(itertools.permutations(range(4)))}
    counts = np.zeros(24)
    for seed in range(2400):
        counts[orders[tuple(secret_permutation(4, seed.to_bytes(32, "big")).tolist())]] += 1
    assert chisquare(counts).pvalue > 1e-4


def test_another_key_makes_another_map() -> None:
    other = LabelMap.draw_label_map("random", 5, 4, MasterKey.from_seed(10))
    ours = made("random").map_to_sub_labels(CLASSES, IDS, split="train")
    assert np.mean(ours == other.map_to_sub_labels(CLASSES, IDS, split="train")) < 0.3


def test_no_secret_is_printed() -> None:
    label_map = made("random")
    shown = repr(label_map)
    assert shown == "LabelMap('random', 5 classes x 4 names)"
    assert repr(made("anchors")).endswith("fitted)")


def test_anchors_need_fitting_and_rows() -> None:
    unfitted = LabelMap.draw_label_map("anchors", 5, 4, KEY)
    assert not unfitted.ready
    with pytest.raises(ValueError, match="fitted anchors"):
        unfitted.map_to_sub_labels(CLASSES, IDS, ROWS, split="train")
    with pytest.raises(ValueError, match="released rows"):
        made("anchors").map_to_sub_labels(CLASSES, IDS, split="train")


def test_impossible_maps_are_refused() -> None:
    for method, classes, expansion in (("none", 5, 2), ("random", 0, 2), ("random", 5, 0)):
        with pytest.raises(UsageError):
            LabelMap.draw_label_map(method, classes, expansion, KEY)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        made("random").map_to_sub_labels(np.array([5]), np.array([0]), split="train")


def test_sample_order_is_a_secret_permutation_of_each_split() -> None:
    key = MasterKey.from_seed(3)
    order = permutation_of_samples(1000, "train", key)
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, permutation_of_samples(1000, "train", key))
    assert not np.array_equal(order, permutation_of_samples(1000, "validation", key))
    assert not np.array_equal(order, permutation_of_samples(1000, "train", MasterKey.from_seed(4)))
    # Neighbours in the file do not stay near each other: |difference| averages n / 3.
    assert 300 < np.abs(np.diff(order)).mean() < 367

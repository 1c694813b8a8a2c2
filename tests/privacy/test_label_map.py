from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


def test_probabilities_of_anchors_add_up() -> None:
    label_map = made("anchors")
    names = label_map.num_sub_labels
    probabilities = np.random.default_rng(0).dirichlet(np.ones(names), 3)
    owners = label_map.map_to_classes(np.arange(names, dtype=np.int32))
    expected = np.stack(
        [probabilities[:, owners == k].sum(1) for k in range(label_map.num_classes)]
    )
    assert label_map.map_probabilities(probabilities) == pytest.approx(expected.T, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**63))
def test_probabilities_of_random_names_are_pooled(k: int, gamma: int, seed: int) -> None:
    label_map = LabelMap.draw_label_map("random", k, gamma, MasterKey.from_seed(seed))
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(k * gamma), 3)
    pooled = label_map.map_probabilities(probabilities)
    assert pooled.sum(axis=1) == pytest.approx(np.ones(3))
    owners = label_map.map_to_classes(np.arange(k * gamma, dtype=np.int32))
    means = np.stack([np.log(probabilities[:, owners == c]).mean(axis=1) for c in range(k)], axis=1)
    assert np.log(pooled) - np.log(pooled[:, :1]) == pytest.approx(means - means[:, :1])


def test_one_overrated_name_does_not_outvote_a_class() -> None:
    label_map = LabelMap.draw_label_map("random", 2, 50, MasterKey.from_seed(1))
    owners = label_map.map_to_classes(np.arange(100, dtype=np.int32))
    logits = np.where(owners == 0, 1.0, 0.0)
    logits[np.flatnonzero(owners == 1)[0]] = 9.0
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert probabilities[owners == 1].sum() > 0.9
    assert label_map.map_probabilities(probabilities[None])[0].argmax() == 0


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
    with pytest.raises(ValueError, match="sub-labels"):
        made("random").map_probabilities(np.zeros((2, 5)))


def test_sample_order_is_a_secret_permutation_of_each_split() -> None:
    key = MasterKey.from_seed(3)
    order = permutation_of_samples(1000, "train", key)
    assert sorted(order.tolist()) == list(range(1000))
    assert np.array_equal(order, permutation_of_samples(1000, "train", key))
    assert not np.array_equal(order, permutation_of_samples(1000, "validation", key))
    assert not np.array_equal(order, permutation_of_samples(1000, "train", MasterKey.from_seed(4)))
    # Neighbours in the file do not stay near each other: |difference| averages n / 3.
    assert 300 < np.abs(np.diff(order)).mean() < 367

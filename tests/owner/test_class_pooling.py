"""From logits of names to probabilities of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.owner.class_pooling import ClassPooling
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey


def random_map(classes: int, gamma: int, seed: int) -> LabelMap:
    return LabelMap.draw_label_map("random", classes, gamma, MasterKey.from_seed(seed))


def test_probabilities_of_anchors_add_up() -> None:
    rng = np.random.default_rng(0)
    drawn = LabelMap.draw_label_map("anchors", 5, 4, MasterKey.from_seed(9))
    label_map = drawn.with_anchors(
        rng.normal(size=(300, 6)).astype(np.float32), rng.integers(0, 5, 300)
    )
    logits = torch.from_numpy(rng.normal(size=(3, 20)).astype(np.float32))
    owners = label_map.map_to_classes(np.arange(20, dtype=np.int32))
    names = torch.softmax(logits.double(), 1).numpy()
    expected = np.stack([names[:, owners == k].sum(1) for k in range(5)], axis=1)
    assert ClassPooling(label_map)(logits).numpy() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**63))
def test_probabilities_of_random_names_are_pooled(k: int, gamma: int, seed: int) -> None:
    label_map = random_map(k, gamma, seed)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(k * gamma), 3)
    pooled = ClassPooling(label_map)(torch.from_numpy(np.log(probabilities))).numpy()
    assert pooled.sum(axis=1) == pytest.approx(np.ones(3))
    owners = label_map.map_to_classes(np.arange(k * gamma, dtype=np.int32))
    means = np.stack([np.log(probabilities[:, owners == c]).mean(axis=1) for c in range(k)], axis=1)
    assert np.log(pooled) - np.log(pooled[:, :1]) == pytest.approx(means - means[:, :1])


def test_one_overrated_name_does_not_outvote_a_class() -> None:
    label_map = random_map(2, 50, 1)
    owners = label_map.map_to_classes(np.arange(100, dtype=np.int32))
    logits = np.where(owners == 0, 1.0, 0.0)
    logits[np.flatnonzero(owners == 1)[0]] = 9.0
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert probabilities[owners == 1].sum() > 0.9
    assert ClassPooling(label_map)(torch.from_numpy(logits[None])).argmax() == 0


def test_a_network_that_is_sure_rules_no_class_out() -> None:
    label_map = random_map(2, 2, 1)
    logits = torch.full((1, 4), -1e6)
    logits[0, int(label_map.names_of_classes()[1, 0])] = 1e6
    pooled = ClassPooling(label_map)(logits)
    assert bool(torch.isfinite(pooled).all())
    assert pooled.argmax() == 1

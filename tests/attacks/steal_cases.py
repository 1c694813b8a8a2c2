"""Small images, fronts and views for the tests of membership, property and extraction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.toolbox.surrogate_network import (
    SegmentChain,
    SurrogateTraining,
    evaluate_network,
    fit_network,
    seed_network,
)

K, GAMMA, SIDE, CHANNELS = 4, 3, 6, 3
NUMBERS = CHANNELS * SIDE * SIDE
SECRET = np.random.default_rng(11).permutation(np.arange(K * GAMMA) // GAMMA).astype(np.int64)


def pictures(count: int, seed: int, *, wrong: float = 0.0) -> LabelledImages:
    """Images of K classes: a pattern each, under noise and a tint that has no class."""
    pattern = np.random.default_rng(0).random((K, CHANNELS, SIDE, SIDE))
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, count)
    images = pattern[classes] + rng.normal(0, 0.2, (count, CHANNELS, SIDE, SIDE))
    images += rng.normal(0, 0.25, (count, CHANNELS, 1, 1))
    swap = rng.random(count) < wrong
    labels = np.where(swap, rng.integers(0, K, count), classes)
    return LabelledImages(np.clip(images, 0, 1).astype(np.float32), labels.astype(np.int64))


def front(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1: the pixels themselves."""
    flat = images.reshape(len(images), -1) - np.float32(0.5)
    rows: NDArray[np.float32] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return rows


def identity(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows


def mechanism(sigma: float, relation: str = "replace-one") -> PublicMechanism:
    mu = (2 if relation == "replace-one" else 1) / sigma if sigma else math.inf
    return PublicMechanism("sample", relation, 1.0, sigma, 1.0 if sigma else math.inf, mu, False)


def trainer(train: LabelledImages, sigma: float, *, group: int = 1, seed: int = 0) -> AdversaryView:
    """Trainer 1's view: every sample in one row, alone or in the mean of ``group``."""
    rng = np.random.default_rng(seed)
    clean = front(train.images)
    rows = clean + rng.normal(0, sigma, clean.shape).astype(np.float32)
    groups = np.arange(len(train))[:, None]
    if group > 1:
        order = np.argsort(train.classes, kind="stable")
        groups = order[: len(order) // group * group].reshape(-1, group)
    return AdversaryView(
        adversary=Adversary("trainer 1", (1,)),
        rows=rows[groups].mean(axis=1, dtype=np.float32),
        sub_labels=np.zeros(len(groups), dtype=np.int32),
        groups=groups.astype(np.int64),
        sub_label_count=K * GAMMA,
        segments={1: nn.Sequential(nn.Linear(NUMBERS, 64), nn.ReLU())},
        mechanism=mechanism(sigma),
        front=front,
        clip=identity,
    )


def outsider(
    segments: tuple[nn.Module, ...], sigma: float = 0.0, *, public: bool = True
) -> AdversaryView:
    """A view of the delivered segments, without rows."""
    return AdversaryView(
        adversary=Adversary("outsider", tuple(range(1, len(segments) + 1))),
        rows=np.empty((0, NUMBERS), dtype=np.float32),
        sub_labels=np.empty(0, dtype=np.int32),
        groups=np.empty((0, 1), dtype=np.int64),
        sub_label_count=K * GAMMA,
        segments=dict(enumerate(segments, 1)),
        mechanism=mechanism(sigma),
        front=front if public else None,
        clip=identity,
    )


def delivered(train: LabelledImages, epochs: int, seed: int = 1) -> tuple[nn.Module, ...]:
    """Two segments that learnt secret sub-labels of ``train`` without noise; none if 0 epochs."""
    parts = (
        nn.Sequential(nn.Linear(NUMBERS, 128), nn.ReLU()),
        nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, K * GAMMA)),
    )
    network = seed_network(seed, SegmentChain(parts)).eval()
    if epochs:
        rng = np.random.default_rng([seed, 99])  # not the stream the images came from
        names = np.array([rng.choice(np.flatnonzero(one == SECRET)) for one in train.classes])
        targets = np.eye(K * GAMMA)[names]
        fit_network(
            network,
            front(train.images),
            targets,
            SurrogateTraining(epochs, seed, learning_rate=0.01),
        )
    return parts


def truth(
    train: LabelledImages, test: LabelledImages, segments: tuple[nn.Module, ...]
) -> GroundTruth:
    def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return evaluate_network(SegmentChain(segments), front(images))

    return GroundTruth(train, test, K, SECRET, predict)

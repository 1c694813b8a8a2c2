"""How much accuracy sample-level local DP leaves, by estimators simpler than a chain of trainers.

python bench/retention.py [--cut 15] [--draws 10] [--private data/cifar10.h5] ...

Behind the public front, for each number of released coordinates, accuracy on clean test rows of

``means``
    nearest class mean of the released rows;
``shrunk``
    linear discriminant with within-class covariance and prior of the class means taken from the
    public classes (empirical Bayes: Efron and Morris, "Data Analysis Using Stein's Estimator and
    its Generalizations", JASA 70, 1975);
``network``
    without noise only: two hidden layers on single rows, the yardstick of retention;
``lda``
    class means behind ``front.projection = "private-lda"``: a part of the samples is spent on
    noised class sums, the others are released as probabilities of the classes;
``alone``
    those probabilities themselves, which the owner has without any trainer.

No label map (gamma 1). Continuous Gaussian noise: close enough for accuracy, not for a guarantee.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.projection import Projection, fit_projection
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_sigma

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]
Figure = Callable[[float, np.random.Generator], float]  # accuracy for a noise

EPSILONS = (None, 8.0, 2.0)
DELTA = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """Rows float64 ``[n, d]`` and classes int64 ``[n]``."""

    rows: Rows
    classes: Labels


def unit(rows: Rows) -> Rows:
    """Scale every row to norm 1."""
    lengths: Rows = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Rows = rows / lengths.clip(1e-12)
    return scaled


def sigma_of(epsilon: float | None) -> float:
    """Noise for rows of norm 1, sensitivity 2."""
    return 0.0 if epsilon is None else gaussian_sigma(epsilon, DELTA, 2.0)


def sums(data: Set, classes: int) -> Rows:
    """Return the sum of rows of each class, ``[classes, d]``."""
    return np.eye(classes)[data.classes].T @ data.rows


def spread(public: Set) -> tuple[Rows, Rows]:
    """Return covariance between the public class means (sampling error removed) and within."""
    classes = int(public.classes.max()) + 1
    counts = np.bincount(public.classes, minlength=classes)
    means = sums(public, classes) / counts[:, None]
    within = np.cov((public.rows - means[public.classes]).T)
    values, vectors = np.linalg.eigh(np.cov(means.T) - within / counts.mean())
    return (vectors * np.maximum(values, 1e-6 * values.max())) @ vectors.T, within


def noised_means(train: Set, sigma: float, rng: np.random.Generator) -> tuple[Rows, float]:
    """Return class means of released rows and the noise of one of their coordinates."""
    counts = np.bincount(train.classes)
    noise = rng.normal(size=(len(counts), train.rows.shape[1])) * sigma * np.sqrt(counts)[:, None]
    return (sums(train, len(counts)) + noise) / counts[:, None], sigma / float(counts.mean()) ** 0.5


def by_means(train: Set, test: Set, sigma: float, rng: np.random.Generator) -> float:
    """Accuracy of the nearest class mean; known noise is taken out of the means' squared norms."""
    means, noise = noised_means(train, sigma, rng)
    squares = (means**2).sum(axis=1) - means.shape[1] * noise**2
    return float(((test.rows @ means.T - squares / 2).argmax(axis=1) == test.classes).mean())


def by_shrunk(train: Set, test: Set, public: Set, sigma: float, rng: np.random.Generator) -> float:
    """Accuracy of the linear discriminant whose prior and covariance are public."""
    between, within = spread(public)
    means, noise = noised_means(train, sigma, rng)
    own, count = np.eye(len(within)), len(train.rows) / len(means)
    gain = between @ np.linalg.inv(between + noise**2 * own + within / count)
    centre = public.rows.mean(axis=0)
    means = centre + (means - centre) @ gain.T
    ridge = 0.05 * np.trace(within) / len(within) * own
    precision = np.linalg.inv(within + ridge + between - gain @ between)
    scores = test.rows @ precision @ means.T
    scores -= np.einsum("kd,de,ke->k", means, precision, means) / 2
    return float((scores.argmax(axis=1) == test.classes).mean())


def by_private_lda(
    train: Set, test: Set, public: Set, share: float, alone: bool, sigma: float,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """Accuracy of class means behind the class scores that a ``share`` of the samples pays for.

    ``alone``: of the scores themselves, which is what the owner has without any trainer.
    """
    order = rng.permutation(len(train.rows))
    cut = int(share * len(order))
    fit, rest = (Set(train.rows[part], train.classes[part]) for part in (order[:cut], order[cut:]))
    classes = int(train.classes.max()) + 1
    noised = sums(fit, classes) + rng.normal(size=(classes, fit.rows.shape[1])) * sigma
    samples = cut / classes
    scores = fit_private_lda(
        noised / samples, public.rows, public.classes, noise=sigma / samples, samples=samples
    )
    moved = [
        Set(unit(scores.apply(torch.from_numpy(part.rows)).numpy()), part.classes)
        for part in (rest, test)
    ]
    if alone:
        return float((moved[1].rows.argmax(axis=1) == test.classes).mean())
    # Rows of norm 1 that are not negative: sensitivity sqrt(2), not 2.
    return by_means(moved[0], moved[1], sigma / 2**0.5, rng)


def by_network(train: Set, test: Set, *, epochs: int = 30, seed: int = 0) -> float:
    """Accuracy of a network with two hidden layers on single rows without noise."""
    torch.manual_seed(seed)
    scale = train.rows.std()
    rows, wanted = torch.tensor(train.rows / scale).float(), torch.tensor(train.classes)
    layers: list[nn.Module] = []
    width = rows.shape[1]
    for _ in range(2):
        layers += [nn.Linear(width, 256), nn.LayerNorm(256), nn.ReLU(), nn.Dropout(0.3)]
        width = 256
    network = nn.Sequential(*layers, nn.Linear(width, int(wanted.max()) + 1))
    steps = len(rows) // 256
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for part in torch.randperm(len(rows))[: steps * 256].reshape(steps, 256):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(rows[part]), wanted[part])
            torch.autograd.backward(loss)
            optimizer.step()
            rates.step()
    network.eval()
    with torch.no_grad():
        guess = network(torch.tensor(test.rows / scale).float()).argmax(dim=1).numpy()
    return float((guess == test.classes).mean())


def behind(front: Front, path: str, split: str) -> Set:
    """Return a whole split behind the front."""
    with open_dataset(path) as data:
        part = data.split(split)
        ids = np.arange(len(part))
        return Set(front.apply(part.read(ids)).astype(np.float64), part.labels(ids))


def line(name: str, dim: int, figure: Figure, draws: int, rng: np.random.Generator) -> None:
    """Print mean accuracy and spread over draws for each epsilon."""
    cells = []
    for epsilon in EPSILONS:
        made = [figure(sigma_of(epsilon), rng) for _ in range(draws if epsilon else 1)]
        cells.append(f"{100 * np.mean(made):.1f} +- {100 * np.std(made):.1f}")
    print(f"{name:8} {dim:4}  off {cells[0]:12}  8: {cells[1]:12}  2: {cells[2]}", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--private", default="data/cifar10.h5")
    parser.add_argument("--public", default="data/cifar100.h5")
    parser.add_argument("--weights", type=Path, default="jobs/fronts/cifar100-conv64.safetensors")
    parser.add_argument("--cut", type=int, default=15)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--whiten", type=float, default=0.5)
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 32, 64])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    front = build_front(
        FrontBase(kind="weights", input_shape=(3, 32, 32), weights=given.weights, cut=given.cut)
    )
    raw = [
        behind(front, given.private, "train"),
        behind(front, given.private, "test"),
        behind(front, given.public, "train"),
    ]
    for dim in given.dims:
        linear = fit_projection(
            raw[2].rows.astype(np.float32), None, Projection("pca", dim, given.whiten)
        )
        offset, matrix = linear.offset.numpy(), linear.matrix.numpy()
        train, test, public = (
            Set(unit((part.rows - offset) @ matrix), part.classes) for part in raw
        )
        print(f"network  {dim:4}  off {100 * by_network(train, test):.1f}", flush=True)
        line("means", dim, partial(by_means, train, test), given.draws, rng)
        line("shrunk", dim, partial(by_shrunk, train, test, public), given.draws, rng)
        apart = np.random.default_rng(1)  # its own draws: the lines above keep theirs
        for share in (0.1, 0.2, 0.4):
            for alone, name in ((False, "lda"), (True, "alone")):
                bought = partial(by_private_lda, train, test, public, share, alone)
                line(f"{name} {share:.0%}", dim, bought, given.draws, apart)


if __name__ == "__main__":
    main()

"""What a release of moments leaves to learn: the ridge, names and mixes, the moments' loss.

    python bench/moment_names.py jobs/strict-moments-cifar10.toml [--set SECTION.KEY=VALUE ...]

Outside a run: the job's front, data and privacy, with the last of the training samples held out to
score on (no test row is seen). For each epsilon and each draw of the noise, accuracy in % of

``class sums``, ``model``
    what the owner has without a trainer, as in a run; the model also with other ridges;
``chosen``, ``drawn``
    three linear layers trained by cross-entropy on recoloured rows, named as a run names them with
    neither mixes nor sharpness, or by chance with the model's probabilities;
``mixes M, sharpness S``
    the same on what the job asks for, where that is something else, and with either alone; as many
    steps in all;
``moment loss``
    the same layers trained on the moments themselves: the mean of lse(z) over public rows, less the
    mean score of each class at its noised mean; with the norm of the product of its layers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import build_job_front, open_public_rows
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.moment_model import choose_names, fit_moment_model
from clicooper_hpc.owner.synthetic_rows import mixed_rows
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import (
    Moments,
    MomentSums,
    moments_context,
    noised_moments,
    solve_moments_spec,
)

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

RIDGES = (100.0, 300.0, 1000.0, 3000.0)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Rows behind the front: private ones in two parts, and public ones."""

    rows: Rows
    classes: Labels
    held_rows: Rows
    held_classes: Labels
    public: Rows
    public_classes: Labels
    front: Front

    @property
    def count(self) -> int:
        """Number of private classes."""
        return int(self.classes.max()) + 1

    def accuracy(self, scores: Rows) -> float:
        """Percent of the held-out samples whose largest score is that of their class."""
        return 100 * float((scores.argmax(axis=1) == self.held_classes).mean())


def behind(front: Front, split: Split) -> Rows:
    """Return all rows of ``split`` behind ``front``."""
    parts = np.array_split(np.arange(len(split)), max(1, len(split) // 4096))
    return np.concatenate([front.apply(split.read(ids)) for ids in parts]).astype(np.float64)


def look(job: Job, held_out: int) -> Known:
    """Build the front and pull everything through it, once."""
    with open_dataset(job.data.path) as data:
        train = data.split("train")
        front = build_job_front(job, data, train)
        rows, classes = behind(front, train), train.labels()
    public, split = open_public_rows(job)
    with public:
        seen, names = behind(front, split), split.labels()
    cut = len(rows) - held_out
    return Known(rows[:cut], classes[:cut], rows[cut:], classes[cut:], seen, names, front)


def release(known: Known, epsilon: float, delta: float, seed: int) -> Moments:
    """Return the moments of the private rows with the noise of ``seed``."""
    spec = solve_moments_spec(known.rows.shape[1], epsilon=epsilon, delta=delta)
    sums = MomentSums(known.count, known.rows.shape[1], spec)
    for part in np.array_split(np.arange(len(known.rows)), 8):
        sums.add_rows(known.rows[part], known.classes[part])
    digest = known.front.digest
    return noised_moments(sums, moments_context(digest, digest, spec), MasterKey.from_seed(seed))


def layers(width: int, classes: int) -> nn.Sequential:
    """Three linear layers, as the shipped job has them (with one more in its last segment)."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 256), nn.Linear(256, 256), nn.Linear(256, classes))


Loss = Callable[[nn.Sequential, NDArray[np.int64]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Training:
    """AdamW with a cosine to zero."""

    epochs: int
    batch: int
    rate: float
    decay: float


def trained(network: nn.Sequential, rows: int, how: Training, loss: Loss) -> None:
    """Train; ``loss`` takes the public rows of each batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=how.rate, weight_decay=how.decay)
    batch = how.batch
    steps = how.epochs * (rows // batch)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(how.epochs):
        order = np.random.default_rng(epoch).permutation(rows)
        for start in range(0, rows - batch + 1, batch):
            optimizer.zero_grad()
            loss(network, order[start : start + batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cosine.step()


def by_names(known: Known, rows: Rows, names: Labels, how: Training) -> float:
    """Train on named rows; return the accuracy."""
    wide, wanted = torch.from_numpy(rows).float(), torch.from_numpy(names)
    network = layers(rows.shape[1], known.count)
    trained(
        network,
        len(rows),
        how,
        lambda made, ids: nn.functional.cross_entropy(made(wide[ids]), wanted[ids]),
    )
    with torch.no_grad():
        return known.accuracy(network(torch.from_numpy(known.held_rows).float()).numpy())


def by_moments(known: Known, rows: Rows, moments: Moments, how: Training) -> tuple[float, float]:
    """Train on the moments themselves; return accuracy and norm of the product of all layers."""
    means = moments.sums / (moments.samples / known.count)
    wide, targets = torch.from_numpy(rows).float(), torch.from_numpy(means).float()
    network, all_classes = layers(rows.shape[1], known.count), torch.arange(known.count)

    def loss(made: nn.Sequential, ids: NDArray[np.int64]) -> torch.Tensor:
        scores: torch.Tensor = made(torch.cat([wide[ids], targets]))
        named = scores[len(ids) :][all_classes, all_classes]
        return torch.logsumexp(scores[: len(ids)], 1).mean() - named.mean()

    trained(network, len(rows), how, loss)
    with torch.no_grad():
        product = torch.eye(rows.shape[1])
        for weight in (value for name, value in network.state_dict().items() if "weight" in name):
            product = weight @ product
        scores = network(torch.from_numpy(known.held_rows).float()).numpy()
    return known.accuracy(scores), float(product.norm())


def lines(known: Known, job: Job, epsilon: float, seed: int) -> Iterator[str]:
    """Yield the figures of one draw of the noise."""
    moments = release(known, epsilon, job.privacy.delta, seed)
    linear = fit_recolouring(known.public, moments)
    rows = (known.public - linear.offset.numpy()) @ linear.matrix.numpy()
    each = moments.samples / known.count
    scores = fit_private_lda(
        moments.sums / each,
        known.public,
        known.public_classes,
        noise=moments.sigma / each,
        samples=each,
    )
    held = torch.from_numpy(known.held_rows).float()
    yield f"class sums {known.accuracy(scores.apply(held).double().numpy()):.1f}"
    model = fit_moment_model(rows, moments)
    yield f"model {known.accuracy(model.class_probabilities(known.held_rows)):.1f}"
    for ridge in RIDGES:
        other = fit_moment_model(rows, moments, ridge=ridge)
        yield f"ridge {ridge:g}: {known.accuracy(other.class_probabilities(known.held_rows)):.1f}"
    probabilities = model.class_probabilities(rows)
    wanted, naming = job.training, job.release
    how = Training(
        # As many rows in all, mixed or not.
        wanted.epochs * (1 + naming.mixes),
        wanted.batch_size,
        wanted.learning_rate,
        wanted.weight_decay,
    )
    yield f"chosen {by_names(known, rows, choose_names(rows, probabilities), how):.1f}"
    table, centre = rows.astype(np.float32), rows.mean(axis=0)
    for mixes, sharpness in sorted(
        {(naming.mixes, naming.sharpness), (0, naming.sharpness), (naming.mixes, 1.0)} - {(0, 1.0)}
    ):
        each_round = [
            mixed_rows(table, centre, np.arange(len(rows)) + mix * len(rows)).astype(np.float64)
            for mix in range(1 + mixes)
        ]
        names = [
            choose_names(part, model.class_probabilities(part, sharpness=sharpness))
            for part in each_round
        ]
        shorter = replace(how, epochs=how.epochs // (1 + mixes))
        found = by_names(known, np.concatenate(each_round), np.concatenate(names), shorter)
        yield f"mixes {mixes}, sharpness {sharpness:g}: {found:.1f}"
    uniform = np.random.default_rng(seed).random((len(rows), 1))
    drawn = (probabilities.cumsum(axis=1) > uniform).argmax(axis=1).astype(np.int64)
    yield f"drawn {by_names(known, rows, drawn, how):.1f}"
    if wanted.batch_size <= 2 * known.count:
        # Half of each batch are the means of the classes.
        return
    for decay in (0.0, 1.0):
        trial = replace(how, batch=how.batch - known.count, decay=decay)
        accuracy, norm = by_moments(known, rows, moments, trial)
        words = f"{norm:.3g}" if math.isfinite(norm) else "not finite"
        yield f"moment loss, weight decay {decay:g}: {accuracy:.1f}, norm {words}"


def main() -> None:
    """Print the figures for every epsilon and seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[2.0, 8.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--held-out", type=int, default=3000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = load_job(given.job, given.set)
    known = look(job, given.held_out)
    for epsilon in given.epsilons:
        for seed in given.seeds:
            print(f"epsilon {epsilon:g}, seed {seed}:", flush=True)
            for line in lines(known, job, epsilon, seed):
                print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()

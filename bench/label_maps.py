"""Label maps against grouping attacks: leak and price by noise, method and gamma.

Rows go through a job's own front and clip; noise is Gaussian of the given standard deviations. The
attacker groups mean rows of the sub-labels in the 64 principal directions of *clean* rows, which is
generous to it: public rows would give nearly the same directions. ``labelled`` is an attacker with
2,000 labelled images of the owner's distribution (`clicooper_hpc/attacks/labels/`). Accuracy is the
owner's on clean test rows (names read as `LabelMap` does it), of a linear network and of one with a
hidden layer, both trained on means of 8 rows of a sub-label.

    python bench/label_maps.py jobs/cifar10.toml --sigma 0.6 2.0 --gamma 1 20 50
    python bench/label_maps.py jobs/strict-cifar10.toml --gamma 1 50 200 --merge

Without --sigma the noise is the job's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score

from clicooper_hpc.attacks.labels.informed_groups import LabelledEvidence, informed_row_scores
from clicooper_hpc.attacks.labels.merge_variants import MergeEvidence, merge_variants
from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.data.dataset import open_dataset
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import build_job_front
from clicooper_hpc.fronts.private_lda import PrivateClassMeans, private_lda_means
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.owner.samples import draw_samples
from clicooper_hpc.privacy.anchors import fit_anchors, summarise_for_anchors
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.release_spec import solve_release_spec

_PASS = 500

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--set", action="append", default=[], help="as for clicooper run")
    parser.add_argument("--sigma", type=float, nargs="+")
    parser.add_argument("--gamma", type=int, nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=["random", "anchors"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--merge", action="store_true", help="all variants of the merge attack too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    job = load_job(given.job, given.set)
    master = MasterKey.from_seed(0)
    with open_dataset(job.data.path) as data:
        samples = draw_samples(job, data, master)
        splits, set_aside = samples.splits, samples.set_aside

        def class_means(before: Front) -> PrivateClassMeans:
            assert set_aside is not None
            return private_lda_means(before, set_aside, data.num_classes, job.privacy, master)

        front = build_job_front(job, data, splits["train"], class_means=class_means)
        limit = {"train": len(splits["train"]), "test": min(len(splits["test"]), 4000)}
        clean, labels = {}, {}
        for name, count in limit.items():
            labels[name] = np.asarray(splits[name].labels(np.arange(count)), dtype=np.int64)
            parts = [
                _clipped(
                    front.apply(splits[name].read(np.arange(at, min(at + _PASS, count)))),
                    job.privacy.unit,
                    job.privacy.clip,
                    front.non_negative,
                ).astype(np.float16)
                for at in range(0, count, _PASS)
            ]
            clean[name] = np.concatenate(parts)
        classes = data.num_classes
    mean, basis = _directions(clean["train"])
    tests = _project(clean["test"], mean, basis, 0.0, 0)[0]
    noises = given.sigma
    if noises is None:
        promise = mechanism_guarantee(job, front.output_shape, non_negative=front.non_negative)
        noises = [solve_release_spec(promise).sigma]
    for sigma in noises:
        for seed in range(given.seeds):
            places, points = _project(clean["train"], mean, basis, sigma, seed)
            for gamma in given.gamma:
                for method in given.methods if gamma > 1 else ["random"]:
                    _report(
                        f"sigma {sigma:g} {method} gamma {gamma} seed {seed}",
                        places, points, labels["train"], tests, labels["test"], classes, gamma,
                        method, sigma, seed, given.merge,
                    )  # fmt: skip


def _report(
    title: str, places: Rows, points: Rows, classes: Ints, tests: Rows, truth: Ints, count: int,
    gamma: int, method: str, sigma: float, seed: int, merge: bool,
) -> None:  # fmt: skip
    if method == "anchors":
        anchors = fit_anchors(points, classes, count, gamma, seed)
        which = anchors.assign_summaries(points, classes)
    else:
        which = np.random.default_rng(seed).integers(gamma, size=len(classes))
    named = classes * gamma + which
    owner = np.arange(count * gamma) // gamma
    leaks = _leaks(places, named, classes, owner, count, seed)
    half = len(tests) // 2
    scores = informed_row_scores(
        LabelledEvidence(
            places, named.astype(np.int32), len(owner), tests[:half], truth[:half], count, sigma
        )
    )
    occurring = np.bincount(named, minlength=len(owner)) > 0
    guessed = scores.argmax(axis=1)
    leaks["labelled"] = adjusted_rand_score(owner[occurring], guessed[occurring])
    if merge and gamma > 1:
        seen = np.bincount(named, minlength=len(owner)) > 0
        found = merge_variants(
            MergeEvidence(places, named.astype(np.int32), gamma, count, sigma), seed=seed
        )
        scored = {k: adjusted_rand_score(owner[seen], v[seen]) for k, v in found.items()}
        best = max(scored, key=lambda name: scored[name])
        leaks[f"merge attack ({best})"] = scored[best]
    text = ", ".join(f"{name} {value:.3f}" for name, value in leaks.items())
    accuracies = [
        _accuracy(places, named, tests, truth, count, gamma, method, linear=linear, seed=seed)
        for linear in (True, False)
    ]
    print(
        f"{title}: ARI {text}; "
        f"accuracy linear {accuracies[0][0]:.3f}, hidden layer {accuracies[1][0]:.3f} "
        f"(added up {accuracies[1][1]:.3f})",
        flush=True,
    )


def _clipped(rows: Rows, unit: str, clip: float, non_negative: bool) -> Rows:
    if unit == "element":
        return np.clip(rows, 0.0 if non_negative else -clip, clip)
    norms = np.linalg.norm(rows.reshape(len(rows), -1), axis=1)
    factors = np.minimum(1.0, clip / np.maximum(norms, 1e-12)).astype(np.float32)
    return np.asarray(rows * factors.reshape(-1, *[1] * (rows.ndim - 1)), dtype=np.float32)


def _directions(clean: NDArray[np.float16]) -> tuple[Rows, Rows]:
    some = torch.from_numpy(clean[:4000].reshape(min(len(clean), 4000), -1).astype(np.float32))
    mean = some.mean(0)
    torch.manual_seed(0)
    width = min(64, some.shape[1])
    basis = torch.svd_lowrank(some - mean, q=min(width + 6, some.shape[1]), niter=2)[2][:, :width]
    return mean.numpy(), basis.numpy()


def _project(
    clean: NDArray[np.float16], mean: Rows, basis: Rows, sigma: float, seed: int
) -> tuple[Rows, Rows]:
    """Return the attacker's coordinates and the owner's summaries of noised rows."""
    rng = np.random.default_rng(seed)
    places, points = [], []
    for at in range(0, len(clean), _PASS):
        rows = clean[at : at + _PASS].astype(np.float32)
        rows = rows + np.float32(sigma) * rng.standard_normal(size=rows.shape, dtype=np.float32)
        places.append((rows.reshape(len(rows), -1) - mean) @ basis)
        points.append(summarise_for_anchors(rows))
    return np.concatenate(places), np.concatenate(points)


def _leaks(
    places: Rows, named: Ints, classes: Ints, owner: Ints, count: int, seed: int
) -> dict[str, float]:
    sizes = np.bincount(named, minlength=len(owner))
    seen = sizes > 0
    means = np.zeros((len(owner), places.shape[1]))
    np.add.at(means, named, places)
    means /= np.maximum(sizes, 1)[:, None]
    left = places - means[named]
    values, vectors = np.linalg.eigh(left.T @ left / len(left) + 1e-9 * np.eye(left.shape[1]))
    found = {}
    for name, points in (("", means), ("whitened ", means @ (vectors / np.sqrt(values)))):
        used = points[seen] - points[seen].mean(axis=0)
        axes = np.linalg.svd(used * np.sqrt(sizes[seen])[:, None], full_matrices=False)[2]
        for width in (4, 9, 16):
            few = used @ axes[:width].T
            groups = KMeans(count, n_init=5, random_state=seed).fit_predict(few)
            found[f"{name}k-means {width}"] = groups
            found[f"{name}Ward {width}"] = AgglomerativeClustering(count).fit_predict(few)
    scored = {name: adjusted_rand_score(owner[seen], group) for name, group in found.items()}
    best = max(scored, key=lambda name: scored[name])
    rows = np.full(len(owner), -1)
    rows[seen] = found[best]
    return {
        f"strongest ({best})": scored[best],
        "over samples": adjusted_rand_score(classes, rows[named]),
    }


def _accuracy(
    rows: Rows, named: Ints, tests: Rows, truth: Ints, count: int, gamma: int, method: str,
    *, linear: bool, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the accuracy as the owner reads it, and with the probabilities of names added up."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    scale = np.float32(1.2 / rows.std())
    x, held = torch.from_numpy(rows * scale), torch.from_numpy(tests.astype(np.float32) * scale)
    names, width = count * gamma, rows.shape[1]
    nn = torch.nn
    network: nn.Module = nn.Linear(width, names)
    if not linear:
        network = nn.Sequential(
            nn.Linear(width, 256), nn.LayerNorm(256), nn.ReLU(), nn.Linear(256, names)
        )
    rate, decay, epochs, averaged = (1e-2, 1.0, 30, 8) if linear else (2e-3, 0.3, 16, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    course = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        order = order[np.argsort(named[order], kind="stable")]
        now = named[order]
        sizes = np.bincount(now, minlength=names)
        within = np.arange(len(now)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        fresh = np.flatnonzero(within % averaged == 0)
        group = torch.from_numpy(np.cumsum(within % averaged == 0) - 1)
        means = torch.zeros(len(fresh), width).index_add_(0, group, x[order])
        means /= torch.bincount(group)[:, None]
        answers = torch.from_numpy(now[fresh])
        for batch in torch.randperm(len(fresh)).split(128):  # type: ignore[no-untyped-call]
            loss = nn.functional.cross_entropy(network(means[batch]), answers[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        course.step()
    with torch.no_grad():
        logs = network(held).log_softmax(1).reshape(len(held), count, gamma)
    pooled, added = (
        float((shares.argmax(1).numpy() == truth).mean())
        for shares in (logs.mean(2), logs.logsumexp(2))
    )
    return (pooled, added) if method == "random" else (added, added)


if __name__ == "__main__":
    main()

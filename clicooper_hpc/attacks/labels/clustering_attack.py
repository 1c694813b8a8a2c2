"""Clustering of single rows into classes (Liu et al., arXiv 2203.05222)."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

from clicooper_hpc.attacks.harness.adversary import (
    NO_SAMPLE_LEFT,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
)
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.labels.grouping_metrics import (
    adjusted_rand,
    groups_found,
    hungarian_accuracy,
    hungarian_chance,
)
from clicooper_hpc.attacks.labels.row_representations import row_representations
from clicooper_hpc.attacks.toolbox.confidence_interval import (
    bootstrap_interval,
    clopper_pearson_interval,
)
from clicooper_hpc.attacks.toolbox.segment_features import (
    count_classes,
    held_segment_chain,
    segment_features,
)
from clicooper_hpc.privacy.ceiling import gaussian_ceiling

__all__ = ["CLUSTERING", "cluster_rows", "guess_clusters"]

_WIDTH = 128
_WHITE = 64

Guesses = dict[str, NDArray[np.int64]]


def cluster_rows(
    rows: NDArray[np.float32],
    classes: int,
    known: NDArray[np.int64],
    seed: int,
    scale: float,
) -> Guesses:
    """Return the group or class int64 [n] guessed for each row, by variant.

    Parameters
    ----------
    rows
        float32 [n, ...].
    classes
        K.
    known
        int64 [K]: one row of each class whose class is known; row ``known[c]`` is of class c.
        Variants that use it say ``known``, and what they guess are classes, not nameless groups.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    found: Guesses = {}
    for name, space in row_representations(rows, seed, width=_WIDTH).items():
        for kind, points in _clustering_spaces(space).items():
            tag = f"{name}, {kind}"
            # Plain k-means on tens of thousands of rows would take most of the attack's time.
            wide = len(points) > 5000
            starts = max(1, round(5 * scale))
            model = (MiniBatchKMeans if wide else KMeans)(
                classes, n_init=starts, random_state=seed, **({"batch_size": 2048} if wide else {})
            )
            found[f"{tag}, k-means"] = np.asarray(model.fit_predict(points), dtype=np.int64)
            begin = points[known]
            started = KMeans(classes, init=begin, n_init=1, max_iter=100).fit(points)
            found[f"{tag}, k-means from known"] = np.asarray(started.labels_, dtype=np.int64)
            if kind == "unit":
                # Rows and known rows have length 1 here: the product is the cosine.
                near = np.argmax(points @ begin.T, axis=1)
                found[f"{tag}, nearest known by cosine"] = near.astype(np.int64)
            else:
                # The row's own square is the same for all classes.
                squares = np.sum(begin**2, axis=1) - 2 * points @ begin.T
                found[f"{tag}, nearest known"] = np.argmin(squares, axis=1).astype(np.int64)
    return found


def _clustering_spaces(space: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Return the rows plain, l2-normalised and whitened (first 64 principal axes)."""
    centred = space.astype(np.float64) - space.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / max(len(centred) - 1, 1))
    kept = np.argsort(values)[::-1][:_WHITE]
    # Directions without variance would be blown up to length 1.
    kept = kept[values[kept] > 1e-9 * max(float(values.max()), 1e-300)]
    white = centred @ vectors[:, kept] / np.sqrt(values[kept])
    norms = np.maximum(np.linalg.norm(space, axis=1, keepdims=True), 1e-12)
    return {
        "plain": np.ascontiguousarray(space, dtype=np.float32),
        "unit": np.asarray(space / norms, dtype=np.float32),
        "white": np.asarray(white, dtype=np.float32),
    }


def guess_clusters(
    view: AdversaryView, classes: int, known: NDArray[np.int64], seed: int, scale: float
) -> Guesses:
    """Return the guesses from the rows and from what each held segment makes of them."""
    found = {
        f"rows: {name}": group
        for name, group in cluster_rows(view.rows, classes, known, seed, scale).items()
    }
    for segment, features in segment_features(
        view.segments, held_segment_chain(view), view.rows
    ).items():
        for name, group in cluster_rows(features, classes, known, seed, scale).items():
            found[f"{segment}: {name}"] = group
    return found


def _known_cluster_rows(
    truth: NDArray[np.int64], classes: int, seed: int
) -> NDArray[np.int64] | None:
    """Draw one row of each class: the one piece of the truth this attacker is given."""
    rng = np.random.default_rng(seed)
    places = [np.flatnonzero(truth == number) for number in range(classes)]
    if any(not len(place) for place in places):
        return None
    return np.array([rng.choice(place) for place in places], dtype=np.int64)


def _clustering_ceiling(view: AdversaryView, classes: int) -> float:
    """Return the ceiling for guesses from released rows alone, nan where none applies."""
    mechanism = view.mechanism
    # Rows behind a segment or means of rows are not covered by the bound for a released row.
    released = view.adversary.segments[:1] == (1,) and view.groups.shape[1] == 1
    if not released or mechanism.sigma <= 0 or not math.isfinite(mechanism.radius):
        return math.nan
    return gaussian_ceiling(classes, mechanism.radius, mechanism.sigma)


def _score_clusters(
    name: str,
    group: NDArray[np.int64],
    true: NDArray[np.int64],
    ceiling: float,
    party: str,
    seed: int,
) -> list[AttackResult]:
    # Chance of the same group sizes: with unequal classes it is above 1/K.
    blind = np.random.default_rng(seed).permutation(true)
    note = f"{len(true)} rows"
    if "known" in name:
        note += "; one known row a class"
    if not math.isnan(ceiling):
        note += "; ceiling is for class guesses, Hungarian naming adds what chance shows"
    low, high = bootstrap_interval(
        lambda drawn: hungarian_accuracy(group[drawn], true[drawn]), len(true), seed
    )
    found = [
        AttackResult(
            "clustering",
            name,
            party,
            "Hungarian accuracy",
            "honest",
            hungarian_accuracy(group, true),
            low,
            high,
            chance=hungarian_chance(group, true, seed, draws=50),
            ceiling=ceiling,
            seed=seed,
            note=note,
        ),
        AttackResult(
            "clustering",
            name,
            party,
            "groups found (purity and recall >= 0.9)",
            "paper",
            groups_found(group, true),
            chance=groups_found(group, blind),
            seed=seed,
            note=f"{note}; our reading of a success of 0 %, which no accuracy can be",
        ),
    ]
    for metric, score in (("ARI", adjusted_rand), ("NMI", _clustering_nmi)):
        value, chance = score(group, true), score(group, blind)
        found.append(
            AttackResult(
                "clustering",
                name,
                party,
                metric,
                "honest",
                value,
                chance=chance,
                seed=seed,
                note=note,
            )
        )
    if "nearest known" in name:
        # These guess classes by name: nothing is matched afterwards.
        right = int(np.sum(group == true))
        low, high = clopper_pearson_interval(right, len(true))
        found.append(
            AttackResult(
                "clustering",
                name,
                party,
                "accuracy",
                "honest",
                right / len(true),
                low,
                high,
                chance=1 / (int(true.max()) + 1),
                ceiling=ceiling,
                seed=seed,
                note=note,
            )
        )
    return found


def _clustering_nmi(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    return float(normalized_mutual_info_score(truth, found))


def _clustering_applies(view: AdversaryView) -> str | None:
    if view.summed:
        return NO_SAMPLE_LEFT
    return None if len(view.rows) else "the party has no rows"


def _run_clustering(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    classes = count_classes(aux.same.classes)
    # A mean of k rows is of samples of one sub-label, so of one class.
    true = truth.train.classes[view.groups[:, 0]]
    known = _known_cluster_rows(true, classes, seed)
    if known is None:
        return AttackOutcome(())
    unknown = np.ones(len(true), dtype=np.bool_)
    # Rows that were given are no guesses.
    unknown[known] = False
    results: list[AttackResult] = []
    for name, group in guess_clusters(view, classes, known, seed, scale).items():
        ceiling = _clustering_ceiling(view, classes) if name.startswith("rows") else math.nan
        party = view.adversary.name
        results += _score_clusters(name, group[unknown], true[unknown], ceiling, party, seed)
    return AttackOutcome(tuple(results))


CLUSTERING: Final = Attack(
    name="clustering",
    knowledge="rows, K, own segments; one known row a class where the variant says so",
    source="Liu et al., arXiv 2203.05222",
    applies=_clustering_applies,
    run=_run_clustering,
)

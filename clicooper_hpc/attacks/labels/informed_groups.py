"""Classes of sub-labels by labelled images of one's own: for names too many to be grouped blindly.

An attacker with images of the owner's distribution, their classes and the public front needs no
clustering: it asks of each sub-label which class its rows, or the network's answers, are of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from clicooper_hpc.attacks.harness.adversary import AdversaryView, LabelledImages
from clicooper_hpc.attacks.labels.grouping import deal_equal_groups
from clicooper_hpc.attacks.toolbox.segment_features import (
    enters_first_segment,
    held_segment_chain,
    segment_features,
    segment_logits,
)
from clicooper_hpc.attacks.toolbox.shadow_data import cannot_make_shadow_rows, clean_shadow_rows

__all__ = [
    "LabelledEvidence",
    "informed_answer_scores",
    "informed_density_scores",
    "informed_groups",
    "informed_row_scores",
]

_PASS = 1024  # rows at a time
_FEW = 10  # labelled images a class
_WIDE, _AXES = 1024, 64  # of wider rows, the principal axes of the clean ones
_RIDGE = 0.02  # of the mean variance, so that a few images give an invertible covariance

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledEvidence:
    """Rows under their names, and clean rows whose classes are known.

    Parameters
    ----------
    rows, names
        float32 [n, ...] and int32 [n] in [0, count).
    count
        Number of names.
    clean, classes
        float32 [m, ...] and int64 [m] in [0, K).
    class_count
        K.
    sigma
        Standard deviation of the noise of each number of ``rows``.
    """

    rows: NDArray[np.float32]
    names: NDArray[np.int32]
    count: int
    clean: NDArray[np.float32]
    classes: NDArray[np.int64]
    class_count: int
    sigma: float

    def narrow(self, most: int) -> tuple[Scores, Scores]:
        """Return ``clean`` and ``rows`` as vectors in float64.

        Wider than ``most``, along the principal axes of the clean ones: these are orthonormal, so
        the noise stays what it is.
        """
        clean, rows = (part.reshape(len(part), -1) for part in (self.clean, self.rows))
        if clean.shape[1] > most:
            from sklearn.decomposition import PCA

            # Fixed chance: the directions must not differ from seed to seed.
            axes = PCA(min(_AXES, len(clean)), svd_solver="randomized", random_state=0).fit(clean)
            clean, rows = axes.transform(clean), axes.transform(rows)
        return clean.astype(np.float64), rows.astype(np.float64)


def informed_groups(
    view: AdversaryView, known: LabelledImages, classes: int, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Return the class int64 [gamma K] guessed for each sub-label, by variant.

    With 10 labelled images a class, and with all of ``known``; nothing where the front is secret.
    """
    if view.front is None or not len(known):
        return {}
    # Clean, not noised: the noise is known and enters the likelihood itself.
    clean = clean_shadow_rows(view, known.images)
    found: dict[str, NDArray[np.int64]] = {}
    for name, chosen in {
        f"{_FEW} labelled images a class": _few_labelled_images(known.classes, seed),
        f"{len(known)} labelled images": np.arange(len(known)),
    }.items():
        scores: dict[str, Scores] = {}
        if cannot_make_shadow_rows(view) is None:
            seen = LabelledEvidence(
                view.rows,
                view.sub_labels,
                view.sub_label_count,
                clean[chosen],
                known.classes[chosen],
                classes,
                view.mechanism.sigma,
            )
            scores = {"rows": informed_row_scores(seen), "density": informed_density_scores(seen)}
        if enters_first_segment(view):
            features = segment_features(view.segments, held_segment_chain(view), clean[chosen])
            logits = segment_logits(features, view.sub_label_count)
            if logits is not None:
                scores["answers"] = informed_answer_scores(logits, known.classes[chosen], classes)
        for kind, score in scores.items():
            found[f"{name}: {kind}"] = np.argmax(score, axis=1)
            # Every class has gamma sub-labels, which is public.
            found[f"{name}: {kind}, equal"] = deal_equal_groups(-score)
    return found


def informed_row_scores(seen: LabelledEvidence) -> Scores:
    """Return the log-likelihood of each sub-label's rows under each class, float64 [count, K].

    Gaussian classes around the means of the ``clean`` rows [m, ...], with their pooled covariance
    and the noise's: the discriminant of Fisher, and the likeliest class if rows are Gaussian.
    """
    points, rows = seen.narrow(_WIDE)
    means = _informed_class_means(points, seen.classes, seen.class_count)
    left = points - means[seen.classes]
    within = left.T @ left / len(left)
    width = len(within)
    # Of few images the covariance is singular; the noise alone would do, were it never zero.
    within += (seen.sigma**2 + _RIDGE * np.trace(within) / width + 1e-12) * np.eye(width)
    weights = np.linalg.solve(within, means.T)
    sums = np.zeros((seen.count, width))
    np.add.at(sums, seen.names.astype(np.int64), rows)
    sizes = np.bincount(seen.names, minlength=seen.count)[:, None]
    scores: Scores = sums @ weights - sizes / 2 * np.sum(means.T * weights, axis=0)
    return _unseen_classes_last(scores, seen.classes)


def informed_density_scores(seen: LabelledEvidence) -> Scores:
    """Return what `informed_row_scores` returns, for classes of any shape.

    Their density is that of the images:
    a Gaussian kernel on each clean row, as wide as the noise and the bandwidth of Scott
    ("Multivariate Density Estimation", 1992) together.
    """
    points, rows = seen.narrow(_AXES)
    width = points.shape[1]
    spread = float(points.var(axis=0).mean())
    # Noise and kernel are Gaussian, so their variances add.
    variance = seen.sigma**2 + spread * len(points) ** (-2 / (width + 4)) + 1e-12
    present = [one for one in range(seen.class_count) if (seen.classes == one).any()]
    scores = np.zeros((seen.count, seen.class_count))
    for start in range(0, len(rows), _PASS):
        part = rows[start : start + _PASS]
        apart = (part**2).sum(axis=1)[:, None] - 2 * part @ points.T + (points**2).sum(axis=1)
        logs = -apart / (2 * variance)
        logs_of_class = np.stack(
            [
                logsumexp(logs[:, seen.classes == one], axis=1)
                - np.log((seen.classes == one).sum())
                for one in present
            ],
            axis=1,
        )
        names = seen.names[start : start + _PASS].astype(np.int64)
        np.add.at(scores, (names[:, None], np.array(present)[None, :]), logs_of_class)
    return _unseen_classes_last(scores, seen.classes)


def informed_answer_scores(
    logits: NDArray[np.float32], classes_of: NDArray[np.int64], classes: int
) -> Scores:
    """Return by how much more of each sub-label the network answers to each class: [count, K].

    ``logits`` float32 [m, count] on clean rows whose classes are known.
    """
    # Less the largest: exp would overflow.
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    means = _informed_class_means(logs, classes_of, classes)
    scores: Scores = (means - means.mean(axis=0)).T
    return _unseen_classes_last(scores, classes_of)


def _informed_class_means(values: Scores, classes_of: NDArray[np.int64], classes: int) -> Scores:
    """Return the mean of each class, float64 [K, d]; zeros of one without images."""
    parts = [values[classes_of == one] for one in range(classes)]
    return np.stack(
        [part.mean(axis=0) if len(part) else np.zeros(values.shape[1]) for part in parts]
    )


def _unseen_classes_last(scores: Scores, classes_of: NDArray[np.int64]) -> Scores:
    """Make classes without a labelled image, of which nothing is known, the last to be guessed."""
    absent = np.bincount(classes_of, minlength=scores.shape[1]) == 0
    scores[:, absent] = scores.min() - 1.0
    return scores


def _few_labelled_images(classes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    order = np.random.default_rng(seed).permutation(len(classes))
    return np.concatenate(
        [order[classes[order] == one][:_FEW] for one in range(int(classes.max()) + 1)]
    )

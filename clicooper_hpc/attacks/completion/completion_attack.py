"""Model completion (Fu et al., USENIX Security 2022): own segments and few labels.

The attacker puts a small head on what its trained segments make of inputs, fits it to k labelled
samples a class, and lets it improve on its unlabelled rows. Against label expansion it also pools:
all rows of a sub-label are of one class, so their mean answer names the sub-label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.completion.completion_head import (
    Probabilities,
    logistic_head,
    mixmatch_head,
)
from clicooper_hpc.attacks.harness.adversary import (
    NO_SAMPLE_LEFT,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
)
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.labels.grouping_metrics import adjusted_rand
from clicooper_hpc.attacks.toolbox.confidence_interval import (
    bootstrap_group_interval,
    clopper_pearson_interval,
)
from clicooper_hpc.attacks.toolbox.segment_features import (
    count_classes,
    enters_first_segment,
    held_segment_chain,
    segment_features,
)

__all__ = ["COMPLETION", "HeadAnswers", "guess_by_completion"]

# Few labels are the threat: with many, a network trained without segments does as well.
_SHOTS = (1, 4, 10)
_BARE = "no segment"
# Noised copies of each labelled row: a head fitted to one draw would learn that draw.
_COPIES = 10
# MixMatch draws 64 a step; more rows than these would only cost memory.
_UNLABELLED = 6000

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class HeadAnswers:
    """Class probabilities of one head: [rows, K] on the view's rows, [queries, K] on images."""

    rows: Probabilities
    queries: Probabilities


def guess_by_completion(
    view: AdversaryView,
    labelled: LabelledImages,
    queries: Array,
    classes: int,
    seed: int,
    scale: float,
) -> dict[str, HeadAnswers]:
    """Return the answers of every head, by ``body, head``.

    Parameters
    ----------
    labelled
        The attacker's labelled samples: images where it can make inputs (`enters_first_segment`),
        else rows of its own view whose classes it happens to know.
    queries
        Images float32 [q, ...] to name; empty where it cannot make inputs.
    """
    chain = held_segment_chain(view)
    if enters_first_segment(view) and view.front is not None:
        clean = view.clip(view.front(labelled.images))
        asked = view.clip(view.front(queries)) if len(queries) else clean[:0]
        noisy, noisy_classes = _noised_copies(clean, labelled.classes, view.mechanism.sigma, seed)
    else:
        # Behind the first trainer no input can be made, so the labelled samples are rows of the
        # view, which carry noise already.
        clean = noisy = labelled.images
        asked, noisy_classes = clean[:0], labelled.classes
    sets = {"clean": clean, "noisy": noisy, "asked": asked, "rows": view.rows}
    # The same heads without segments are the baseline: what the labels alone are worth.
    bodies = {_BARE: {name: _flat_features(values) for name, values in sets.items()}}
    through = {
        name: segment_features(view.segments, chain, values) if len(values) else {}
        for name, values in sets.items()
    }
    for body in through["clean"]:
        made = {
            name: _flat_features(found[body]) if found else _no_features()
            for name, found in through.items()
        }
        bodies[body] = made
    found: dict[str, HeadAnswers] = {}
    for body, made in bodies.items():
        found |= _fit_completion_heads(
            body, made, labelled.classes, noisy_classes, classes, seed, scale
        )
    return found


def _fit_completion_heads(
    body: str,
    made: dict[str, Array],
    clean_classes: NDArray[np.int64],
    noisy_classes: NDArray[np.int64],
    classes: int,
    seed: int,
    scale: float,
) -> dict[str, HeadAnswers]:
    """Fit on clean features for clean queries, on noised ones for the noised rows."""
    rows, asked = made["rows"], made["asked"]
    (plain,) = logistic_head(made["clean"], clean_classes, (asked,), classes)
    (on_rows,) = logistic_head(made["noisy"], noisy_classes, (rows,), classes)
    found = {f"{body}, logistic": HeadAnswers(on_rows, plain)}
    if len(rows):
        # The rows it is asked about are what it has without labels: noised, as released.
        free = rows[np.random.default_rng(seed).permutation(len(rows))[:_UNLABELLED]]
        on_rows, plain = mixmatch_head(
            made["noisy"], noisy_classes, free, (rows, asked), classes, seed, scale
        )
        found[f"{body}, MixMatch"] = HeadAnswers(on_rows, plain)
    return found


def _noised_copies(
    clean: Array, classes: NDArray[np.int64], sigma: float, seed: int
) -> tuple[Array, NDArray[np.int64]]:
    """Return several noised copies of clean rows: the released rows are noised too."""
    # Copies of rows without noise would be the same row again.
    if sigma <= 0:
        return clean, classes
    rng = np.random.default_rng(seed)
    copies = np.repeat(clean, _COPIES, axis=0)
    noise = rng.standard_normal(copies.shape, dtype=np.float32) * np.float32(sigma)
    return copies + noise, np.repeat(classes, _COPIES)


def _flat_features(values: Array) -> Array:
    """Return maps as their means over a 2 x 2 grid (few labels fit no more), the rest flat."""
    if values.ndim == 4:
        n, channels, high, wide = values.shape
        if high % 2 == 0 and wide % 2 == 0 and high * wide > 4:
            # Odd sides cannot be cut into four equal squares, and maps of four numbers are small
            # enough.
            grid = values.reshape(n, channels, 2, high // 2, 2, wide // 2)
            values = grid.mean(axis=(3, 5))
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    return np.ascontiguousarray(flat, dtype=np.float32)


def _no_features() -> Array:
    return np.zeros((0, 1), dtype=np.float32)


def _few_shot_places(
    samples: LabelledImages, each: int, seed: int, classes: int
) -> NDArray[np.int64] | None:
    """Return the places of ``each`` samples of every class, or None if there are not so many."""
    rng = np.random.default_rng(seed)
    chosen = []
    for number in range(classes):
        places = np.flatnonzero(samples.classes == number)
        # Some classes with fewer labels than others would no longer be "k labels a class".
        if len(places) < each:
            return None
        chosen.append(rng.choice(places, each, replace=False))
    return np.concatenate(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class _FewShots:
    """One number of labelled samples a class, and which rows are scored with it.

    ``true_rows`` int64 [m] are the classes of the view's rows, empty if these are of public images;
    ``scored`` bool [m] leaves out those whose classes the adversary was told.
    """

    shots: int
    classes: int
    true_rows: NDArray[np.int64]
    scored: NDArray[np.bool_]
    note: str
    seed: int


def _score_completion(
    answers: dict[str, HeadAnswers], view: AdversaryView, truth: GroundTruth, few: _FewShots
) -> list[AttackResult]:
    """Score every head; the baseline of a segment's head is the same head without segments.

    Intervals: Clopper-Pearson over samples; by sub-label, a bootstrap over whole sub-labels.
    """
    true_rows, scored, seed = few.true_rows, few.scored, few.seed
    classes = few.classes
    found: list[AttackResult] = []
    values: dict[tuple[str, str], float] = {}

    def add(variant: str, metric: str, value: float, interval: tuple[float, float]) -> None:
        head = variant.rpartition(", ")[2]
        chance = 1 / classes if metric.startswith("accuracy") else 0.0
        baseline = math.nan
        if variant.startswith(_BARE):
            values[head, metric] = value
        else:
            baseline = values.get((head, metric), math.nan)
        found.append(
            AttackResult(
                "completion",
                f"{variant}, {few.shots} a class",
                view.adversary.name,
                metric,
                "honest",
                value,
                *interval,
                chance=chance,
                baseline=baseline,
                seed=seed,
                note=few.note,
            )
        )

    for variant, made in answers.items():
        if len(made.queries):
            right = made.queries.argmax(axis=1) == truth.test.classes
            add(variant, "accuracy on test images", float(right.mean()), _exact_interval(right))
        if not len(made.rows):
            continue
        # All rows of a sub-label are of one class, so pooling them is allowed and stronger.
        names = _classes_by_sub_label(made.rows, view.sub_labels, view.sub_label_count)
        if len(true_rows):
            right = (made.rows.argmax(axis=1) == true_rows)[scored]
            add(variant, "accuracy on released rows", float(right.mean()), _exact_interval(right))
            right = (names[view.sub_labels] == true_rows)[scored]
            drawn = view.sub_labels[scored].astype(np.int64)
            interval = bootstrap_group_interval(right, drawn, seed)
            add(variant, "accuracy on rows by sub-label", float(right.mean()), interval)
        seen = np.bincount(view.sub_labels, minlength=view.sub_label_count) > 0
        # Sub-labels without rows were never named: scoring them would add chance.
        ari = adjusted_rand(names[seen], truth.class_of_sub_label[seen])
        add(variant, "ARI of named sub-labels", ari, (math.nan, math.nan))
    return found


def _exact_interval(right: NDArray[np.bool_]) -> tuple[float, float]:
    return clopper_pearson_interval(int(right.sum()), len(right))


def _classes_by_sub_label(
    probabilities: Probabilities, sub_labels: NDArray[np.int32], count: int
) -> NDArray[np.int64]:
    """Return the class of the largest mean log-probability over a sub-label's rows."""
    # Less the mean over all rows: a head of few labels leans towards some class.
    logs = np.log(probabilities + 1e-3)
    logs -= logs.mean(axis=0)
    sums = np.zeros((count, probabilities.shape[1]))
    np.add.at(sums, sub_labels.astype(np.int64), logs)
    named: NDArray[np.int64] = np.argmax(sums, axis=1).astype(np.int64)
    return named


def _completion_applies(view: AdversaryView) -> str | None:
    if not view.segments:
        return "the party holds no segment"
    if view.summed and not enters_first_segment(view):
        return f"{NO_SAMPLE_LEFT}, and the party cannot make inputs of its own"
    if not len(view.rows) and not enters_first_segment(view):
        return "the party has no rows and cannot make inputs of its own"
    return None


def _run_completion(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    classes = count_classes(aux.same.classes)
    results: list[AttackResult] = []
    true = np.zeros(0, dtype=np.int64)
    if len(view.rows) and not view.summed:
        # A mean of k rows is of samples of one sub-label, so of one class.
        true = truth.train.classes[view.groups[:, 0]]
    own = enters_first_segment(view)
    for shots in _SHOTS:
        source = aux.same if own else LabelledImages(view.rows, true)
        chosen = _few_shot_places(source, shots, seed, classes)
        if chosen is None:
            continue
        labelled = LabelledImages(source.images[chosen], source.classes[chosen])
        scored = np.ones(len(view.rows), dtype=np.bool_)
        if not own:
            # Rows whose classes it was told are no guesses.
            scored[chosen] = False
        queries = truth.test.images if own else np.zeros((0, 1), dtype=np.float32)
        answers = guess_by_completion(view, labelled, queries, classes, seed, scale)
        note = f"{shots} labelled {'images' if own else 'rows of the view'} a class"
        few = _FewShots(shots, classes, true, scored, note, seed)
        results += _score_completion(answers, view, truth, few)
    return AttackOutcome(tuple(results))


COMPLETION: Final = Attack(
    name="completion",
    knowledge="rows, sub-labels, own segments, 1 / 4 / 10 labelled samples a class",
    source="Fu et al., USENIX Security 2022",
    applies=_completion_applies,
    run=_run_completion,
)

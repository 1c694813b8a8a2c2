"""Grouping of sub-labels into classes, by every way of `merge_variants`, and its scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import (
    Attack,
    AttackOutcome,
    AttackResult,
    MetricKind,
)
from clicooper_hpc.attacks.labels.grouping_metrics import adjusted_rand, exactly_recovered, pair_f1
from clicooper_hpc.attacks.labels.informed_groups import informed_groups
from clicooper_hpc.attacks.labels.merge_variants import MergeEvidence, merge_variants
from clicooper_hpc.attacks.labels.name_grouping import cannot_name_images, score_named_images
from clicooper_hpc.attacks.toolbox.segment_features import (
    count_classes,
    held_segment_chain,
    segment_features,
    segment_head_weights,
    segment_logits,
)

__all__ = [
    "MERGE",
    "guess_merge_groups",
    "score_merge_groups",
    "score_merge_names",
]

_DRAWS = 200
#: MetricKind, kind, score of a grouping against the truth, random dealings for its chance.
_METRICS: Final[tuple[tuple[str, MetricKind, Callable[..., float], int], ...]] = (
    ("ARI", "honest", adjusted_rand, _DRAWS),
    ("pair F1", "honest", pair_f1, 50),
    ("classes exactly recovered", "paper", exactly_recovered, 50),
)
#: Sub-labels up to which their confusion, the square of that, is kept.
_SHOWN: Final = 1024

Groups = dict[str, NDArray[np.int64]]


def guess_merge_groups(view: AdversaryView, classes: int, seed: int, scale: float) -> Groups:
    """Return the class guessed for each sub-label, int64 [gamma K], by name of the variant."""
    return _merge_groups_and_confusion(view, classes, seed, scale)[0]


def _merge_groups_and_confusion(
    view: AdversaryView, classes: int, seed: int, scale: float
) -> tuple[Groups, NDArray[np.float64] | None]:
    """Return the groupings, and the mean answer to the rows of each sub-label, if there is one."""
    features = segment_features(view.segments, held_segment_chain(view), view.rows)
    logits = segment_logits(features, view.sub_label_count)
    confused = None
    if logits is not None:
        confused = _merge_confusion(logits, view.sub_labels, view.sub_label_count)
        # The scores themselves are points too, but their confusion says it better.
    evidence = MergeEvidence(
        view.rows,
        view.sub_labels,
        max(view.sub_label_count // classes, 1),
        classes,
        view.mechanism.sigma,
        segment_head_weights(view),
        confused,
        features,
    )
    return merge_variants(evidence, seed=seed, scale=scale), confused


def _merge_confusion(
    logits: NDArray[np.float32], sub_labels: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shares = np.exp(shifted)
    shares /= shares.sum(axis=1, keepdims=True)
    sums = np.zeros((count, count))
    np.add.at(sums, sub_labels.astype(np.int64), shares)
    seen = np.maximum(np.bincount(sub_labels, minlength=count), 1)
    means: NDArray[np.float64] = sums / seen[:, None]
    return means


def score_merge_groups(
    groups: Groups, truth: NDArray[np.int64], party: str, seed: int, seen: NDArray[np.bool_]
) -> tuple[AttackResult, ...]:
    """Return ARI, pair-F1 and classes exactly recovered of each grouping, and the best of all.

    Parameters
    ----------
    groups
        int64 [gamma K] by variant.
    truth
        int64 [gamma K], the class of each sub-label.
    seen
        bool [gamma K]: sub-labels that occur. Only these are scored.

    Sub-labels are all there are, no sample of more: no interval. Chance is the mean over random
    dealings of the classes to sub-labels; for ``strongest`` the mean of the *maximum* over all
    variants, since the maximum of many blind guesses is above one blind guess.
    """
    rng = np.random.default_rng(seed)
    true = truth[seen]
    # The truth dealt at random: group sizes stay what they are.
    dealt = [rng.permutation(true) for _ in range(_DRAWS)]
    results: list[AttackResult] = []
    sizes = f"{len(true)} sub-labels"
    for metric, kind, score, draws in _METRICS:
        values = {name: score(group[seen], true) for name, group in groups.items()}
        chances = np.array(
            [[score(group[seen], deal) for group in groups.values()] for deal in dealt[:draws]]
        )
        for column, (name, value) in enumerate(values.items()):
            chance = float(chances[:, column].mean())
            results.append(
                AttackResult("merge", name, party, metric, kind, value, chance=chance, note=sizes)
            )
        if values:
            # With the truth, and the note says so: an owner must fear the best of all ways.
            best = max(values, key=lambda name: values[name])
            results.append(
                AttackResult(
                    "merge",
                    "strongest",
                    party,
                    metric,
                    kind,
                    values[best],
                    chance=float(chances.max(axis=1).mean()),
                    note=f"{best}; best of {len(values)} picked with the truth, which favours the "
                    f"attacker; {sizes}",
                )
            )
    return tuple(replace(result, seed=seed) for result in results)


def score_merge_names(
    groups: Groups, view: AdversaryView, truth: NDArray[np.int64], classes: int, seed: int
) -> tuple[AttackResult, ...]:
    """Return how many samples have the class that their sub-label was taken for.

    ``groups`` must be classes, not nameless groups: guesses from labelled images. No ceiling of a
    single row holds: a name pools its rows. Without rows every sub-label counts the same.
    """
    sizes = np.ones(len(truth))
    if len(view.sub_labels):
        # A wrong name of a frequent sub-label harms more samples.
        sizes = np.bincount(view.sub_labels, minlength=len(truth)).astype(np.float64)
    return tuple(
        AttackResult(
            "merge",
            name,
            view.adversary.name,
            "class of a sample by its name, accuracy",
            "honest",
            float(sizes[group == truth].sum() / sizes.sum()),
            chance=1 / classes,
            seed=seed,
        )
        for name, group in groups.items()
    )


def _merge_applies(view: AdversaryView) -> str | None:
    if view.summed:
        return cannot_name_images(view)
    if not len(view.rows) and segment_head_weights(view) is None:
        return "the party has neither rows with sub-labels nor the last layer"
    return None


def _run_merge(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """See `Attack.run`.

    Arrays: ``groups: VARIANT`` and ``classes`` int64 [gamma K], ``seen`` bool [gamma K], and for a
    party that holds rows and all layers behind them ``confusion`` float32 [gamma K, gamma K]: the
    mean answer to the rows of each sub-label.
    """
    if view.summed:
        # One name a class and no row of a sample: names are grouped already.
        return AttackOutcome(score_named_images(view, aux, truth, seed))
    classes = count_classes(aux.same.classes)
    groups, confused = _merge_groups_and_confusion(view, classes, seed, scale)
    informed = informed_groups(view, aux.same, classes, seed)
    groups |= informed
    seen = np.ones(view.sub_label_count, dtype=np.bool_)
    if len(view.sub_labels):
        # Sub-labels that never left are no guesses.
        seen = np.bincount(view.sub_labels, minlength=view.sub_label_count) > 0
    results = score_merge_groups(groups, truth.class_of_sub_label, view.adversary.name, seed, seen)
    results += score_merge_names(informed, view, truth.class_of_sub_label, truth.classes, seed)
    arrays: dict[str, NDArray[np.generic]] = {
        f"groups: {name}": group for name, group in groups.items()
    }
    # Beside the guesses what they are guesses of: enough for the figure of a stored record.
    arrays |= {"classes": truth.class_of_sub_label, "seen": seen}
    if confused is not None and len(confused) <= _SHOWN:
        arrays["confusion"] = confused.astype(np.float32)
    return AttackOutcome(results, arrays)


MERGE: Final = Attack(
    name="merge",
    knowledge="rows, sub-labels, noise, K and gamma, own segments; labelled images where it says",
    source="grouping of sub-labels, adaptive attack on label expansion (no published one)",
    applies=_merge_applies,
    run=_run_merge,
)

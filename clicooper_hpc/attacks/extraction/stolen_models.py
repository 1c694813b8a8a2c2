"""What stolen networks are worth, under every rule of naming sub-labels.

The victim answers sub-labels, so a surrogate's accuracy depends on names: blind ones are the
paper's figure, 1/K on average by construction; learnt ones are what an adversary with a few labels
gets; the owner's are what it would get if the map were known. A figure with learnt names stands
beside that of the same architecture trained on these labels alone: only the difference is stolen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.adversary import AdversaryView, GroundTruth
from clicooper_hpc.attacks.harness.attack import AttackResult, MetricKind
from clicooper_hpc.attacks.toolbox.confidence_interval import clopper_pearson_interval
from clicooper_hpc.attacks.toolbox.label_names import (
    NAMING_RULES,
    best_label_names,
    class_scores_by_name,
    identity_label_names,
)
from clicooper_hpc.attacks.toolbox.shadow_data import shadow_inputs
from clicooper_hpc.attacks.toolbox.surrogate_network import evaluate_network

__all__ = ["LABELS_PER_CLASS", "StolenModels", "score_stolen_models"]

LABELS_PER_CLASS: Final = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class StolenModels:
    """What the adversary came away with; all networks take `shadow_data.shadow_inputs` of images.

    Parameters
    ----------
    queries
        Images sent to the victim.
    surrogates
        By variant, networks that answer sub-labels.
    names
        By variant and labels per class, int64 [gamma K].
    scratch
        By labels per class, networks that learnt these labels alone; they answer classes.
    tuned, untuned
        By labels per class, stolen segments fine-tuned on these labels, and the same architecture
        with fresh weights trained the same way; empty without segments or public front.
    """

    queries: int
    surrogates: dict[str, nn.Module] = field(default_factory=dict)
    names: dict[tuple[str, int], NDArray[np.int64]] = field(default_factory=dict)
    scratch: dict[int, nn.Module] = field(default_factory=dict)
    tuned: dict[int, nn.Module] = field(default_factory=dict)
    untuned: dict[int, nn.Module] = field(default_factory=dict)


def score_stolen_models(
    stolen: StolenModels, truth: GroundTruth, view: AdversaryView, seed: int
) -> tuple[AttackResult, ...]:
    """Score on held-out images.

    Intervals are Clopper-Pearson, 95 %, over these images; they do not cover the chance of the
    training, for which there are seeds.
    """
    # Held-out images: on those the adversary asked about, a copy would score what it learnt by
    # heart.
    victim = truth.predict(truth.test.images)
    inputs = shadow_inputs(view, truth.test.images)
    sheet = _StolenScores(view, truth, seed)
    by_owner = _classes_by_owner(victim, truth)
    found = [sheet.accuracy("victim", "accuracy of the victim", by_owner, note="owner's names")]
    # Evaluated once: the baseline of both variants.
    scratch = {k: sheet.share(evaluate_network(net, inputs)) for k, net in stolen.scratch.items()}
    front = "public front" if view.front is not None else "no front"
    for variant, network in stolen.surrogates.items():
        answers = evaluate_network(network, inputs)
        note = f"{front}, {stolen.queries} queries"
        found += _score_by_name(sheet, variant, answers, stolen, scratch, note)
        by_map = _classes_by_owner(answers, truth)
        same = answers.argmax(axis=1) == victim.argmax(axis=1)
        found += [
            sheet.agreement(variant, "agreement with the victim, sub-labels", same, note),
            sheet.agreement(
                variant, "agreement with the victim, classes", by_map == by_owner, note
            ),
        ]
    note = (
        f"{front}, segments {list(view.adversary.segments)}; baseline: fresh weights, same labels"
    )
    for k, network in stolen.tuned.items():
        found.append(
            sheet.accuracy(
                "stolen segments",
                f"accuracy, fine-tuned on {k} per class",
                evaluate_network(network, inputs).argmax(axis=1),
                baseline=sheet.share(evaluate_network(stolen.untuned[k], inputs)),
                note=note,
            )
        )
    return tuple(found)


def _classes_by_owner(answers: NDArray[np.float64], truth: GroundTruth) -> NDArray[np.int64]:
    """Return the class int64 [n] that the owner reads from probabilities of sub-labels."""
    scores = class_scores_by_name(
        answers, truth.class_of_sub_label, truth.classes, pooled=truth.pooled
    )
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _score_by_name(
    sheet: _StolenScores,
    variant: str,
    answers: NDArray[np.float64],
    stolen: StolenModels,
    scratch: dict[int, float],
    note: str,
) -> list[AttackResult]:
    """Score one surrogate under blind, learnt, the owner's and the best names."""
    truth, count = sheet.truth, sheet.truth.classes

    def named(names: NDArray[np.int64]) -> NDArray[np.int64]:
        # Both readings are tried, and the truth picks: that favours the attacker.
        readings = [
            class_scores_by_name(answers, names, count, pooled=pooled).argmax(axis=1)
            for pooled in (False, True)
        ]
        return max(readings, key=lambda read: int((read == truth.test.classes).sum()))

    found = [
        sheet.accuracy(
            variant,
            f"accuracy, identity names ({rule})",
            class_scores_by_name(
                answers, identity_label_names(answers.shape[1], count, rule), count, pooled=False
            ).argmax(axis=1),
            kind="paper",
            note=note,
        )
        for rule in NAMING_RULES
    ]
    found += [
        sheet.accuracy(
            variant,
            f"accuracy, names learnt from {k} per class",
            named(stolen.names[variant, k]),
            baseline=scratch[k],
            note=f"{note}; baseline: the same network from these labels alone",
        )
        for k in LABELS_PER_CLASS
    ]
    # An upper bound of naming, so that a low figure cannot be blamed on names alone.
    best = best_label_names(answers, truth.test.classes, count)[answers.argmax(axis=1)]
    return [
        *found,
        sheet.accuracy(
            variant,
            "accuracy, owner's names (oracle)",
            _classes_by_owner(answers, truth),
            note=note,
        ),
        sheet.accuracy(
            variant,
            "accuracy, best many-to-one names (oracle)",
            best,
            note=f"{note}; names chosen on the scored images: an upper bound of naming",
        ),
    ]


class _StolenScores:
    """Writes findings about one set of scored images."""

    def __init__(self, view: AdversaryView, truth: GroundTruth, seed: int) -> None:
        self.truth = truth
        self._party = view.adversary.name
        self._seed = seed

    def share(self, scores: NDArray[np.float64]) -> float:
        """Share of images whose largest score [n, K] is at their class."""
        return float((scores.argmax(axis=1) == self.truth.test.classes).mean())

    def accuracy(
        self,
        variant: str,
        metric: str,
        classes: NDArray[np.int64],
        *,
        kind: MetricKind = "honest",
        baseline: float = math.nan,
        note: str = "",
    ) -> AttackResult:
        # Compared as classes, whatever names they came from.
        right = classes == self.truth.test.classes
        found = self.agreement(variant, metric, right, note)
        return replace(found, kind=kind, chance=1 / self.truth.classes, baseline=baseline)

    def agreement(
        self, variant: str, metric: str, right: NDArray[np.bool_], note: str
    ) -> AttackResult:
        low, high = clopper_pearson_interval(int(right.sum()), len(right))
        return AttackResult(
            attack="extraction",
            variant=variant,
            party=self._party,
            metric=metric,
            kind="honest",
            value=float(right.mean()),
            low=low,
            high=high,
            seed=self._seed,
            note=note,
        )

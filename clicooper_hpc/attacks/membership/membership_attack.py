"""Membership of known images: inferred from released rows, and from the delivered network.

How: `release_membership_scores` and `network_membership_scores`, beside this file.
True positives at few false ones are what counts (Carlini et al., S&P 2022): an attack
that is sure of some people is worse than one that is slightly right about all. Differential privacy
bounds that figure (Dong, Roth and Su 2019); a measured one above it proves a wrong sensitivity. It
does so for the image: released sub-labels are exact unless randomised response is on. Of released
sums it does so for image and class, whoever is granted them (`summed_membership`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from clicooper_hpc.attacks.harness.adversary import (
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.membership.network_membership import (
    composed_network,
    network_membership_scores,
)
from clicooper_hpc.attacks.membership.release_membership import release_membership_scores
from clicooper_hpc.attacks.membership.summed_attackers import (
    guess_from_recoloured_rows,
    guess_summed_membership,
)
from clicooper_hpc.attacks.toolbox.confidence_interval import (
    bootstrap_interval,
    clopper_pearson_interval,
)
from clicooper_hpc.attacks.toolbox.segment_features import enters_first_segment
from clicooper_hpc.attacks.toolbox.shadow_data import cannot_make_shadow_rows, clean_shadow_rows
from clicooper_hpc.attacks.toolbox.surrogate_network import SegmentChain, evaluate_network
from clicooper_hpc.privacy.ceiling import membership_ceiling

__all__ = ["MEMBERSHIP", "guess_membership", "score_membership"]

#: Sub-label probabilities float64 [n, gamma K] of images.
Oracle = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_FALSE_POSITIVES: Final = (0.001, 0.01)
# One in a thousand false positives needs thousands of non-members to be seen.
_TARGETS: Final = 3000
_POPULATION: Final = 5000
_ROC_POINTS: Final = 200


def guess_membership(
    view: AdversaryView,
    aux: AuxiliaryData,
    targets: LabelledImages,
    oracle: Oracle | None,
    seed: int,
    scale: float,
) -> Mapping[str, NDArray[np.float64]]:
    """Score each target, larger for a likelier member: float64 [t] by variant.

    Parameters
    ----------
    view, aux
        What the attacker holds.
    targets
        Images in question and their classes, members and others mixed.
    oracle
        Answers of the delivered network, for somebody who may ask it; segments that make the whole
        network behind a public front answer as well.
    seed, scale
        Of all chance; share of the full effort.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    if cannot_make_shadow_rows(view) is None:
        rng = np.random.default_rng(seed)
        population = aux.same.images[rng.permutation(len(aux.same))[:_POPULATION]]
        found = release_membership_scores(
            view.rows,
            clean_shadow_rows(view, targets.images),
            clean_shadow_rows(view, population),
            sigma=view.mechanism.sigma,
            group=view.groups.shape[1],
            seed=seed,
        )
        scores |= {f"released rows, {name}": values for name, values in found.items()}
    if view.summed and len(view.rows) and enters_first_segment(view):
        scores |= guess_from_recoloured_rows(view, aux, targets, seed)
    chain = composed_network(view)
    # Whoever holds all segments asks its own copy; the oracle answers the same.
    answers = oracle if chain is None else partial(_membership_answers, view, chain)
    if answers is not None:
        found = network_membership_scores(view, aux, targets, answers, seed, scale)
        scores |= {f"network, {name}": values for name, values in found.items()}
    return scores


def score_membership(
    scores: Mapping[str, NDArray[np.float64]],
    member: NDArray[np.bool_],
    view: AdversaryView,
    seed: int,
) -> tuple[AttackResult, ...]:
    """Return AUC, and true positives at 0.1 % and 1 % false positives, of every variant.

    Intervals, 95 %: of the AUC by bootstrap over targets, of true positives Clopper-Pearson. The
    threshold is set by few non-members, and where they lie by chance it lets more than the stated
    rate pass: the low end is taken back by that, along the trade-off curve of a Gaussian. The
    baseline is a guess without looking.
    """
    mu = _replace_one_mu(view.mechanism)
    results = []
    for variant, values in scores.items():
        auc = partial(_membership_auc, member, values)
        low, high = bootstrap_interval(auc, len(member), seed)
        note = f"{int(member.sum())} members, {int((~member).sum())} others"
        results.append(
            AttackResult(
                attack="membership",
                variant=variant,
                party=view.adversary.name,
                metric="AUC",
                kind="honest",
                value=auc(np.arange(len(member))),
                low=low,
                high=high,
                chance=0.5,
                baseline=0.5,
                ceiling=float(ndtr(mu / math.sqrt(2))) if math.isfinite(mu) else math.nan,
                seed=seed,
                note=note,
            )
        )
        for rate in _FALSE_POSITIVES:
            found = int((values[member] > _membership_threshold(values[~member], rate)).sum())
            low, high = clopper_pearson_interval(found, int(member.sum()))
            low = _low_at_rate(low, rate, int((~member).sum()))
            results.append(
                AttackResult(
                    attack="membership",
                    variant=variant,
                    party=view.adversary.name,
                    metric=f"true positives at {rate:.1%} false positives",
                    kind="honest",
                    value=found / int(member.sum()),
                    low=low,
                    high=high,
                    chance=rate,
                    baseline=rate,
                    ceiling=membership_ceiling(rate, mu) if math.isfinite(mu) else math.nan,
                    seed=seed,
                    note=note,
                )
            )
    return tuple(results)


def _membership_applies(view: AdversaryView) -> str | None:
    if view.held is not None or not len(view.rows):
        return None
    if view.summed and enters_first_segment(view):
        return None
    why = cannot_make_shadow_rows(view)
    return None if why is None or composed_network(view) is not None else why


def _run_membership(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """See `Attack.run`; arrays hold false- and true-positive rates float64 [2, points].

    ``roc VARIANT`` is measured, ``bound`` what the guarantee allows nobody to exceed.
    """
    rng = np.random.default_rng([seed, 1])
    # Samples that never entered the party's rows are no members to it.
    trained = np.unique(view.groups) if view.groups.size else np.arange(len(truth.train))
    inside = rng.permutation(trained)[:_TARGETS]
    outside = rng.permutation(len(truth.test))[:_TARGETS]
    # Mixed: the place of a target must not tell.
    order = rng.permutation(len(inside) + len(outside))
    member = (np.arange(len(order)) < len(inside))[order]
    targets = _mixed_images(truth.train, inside, truth.test, outside, order)
    if view.held is not None:
        # Who could be there instead: for a member an image from outside, else a member.
        instead = rng.choice(len(truth.test), len(inside)), rng.choice(trained, len(outside))
        swapped = _mixed_images(truth.test, instead[0], truth.train, instead[1], order)
        scores = guess_summed_membership(view, aux, targets, swapped, member, seed)
    else:
        oracle = truth.predict if not len(view.rows) else None
        scores = guess_membership(view, aux, targets, oracle, seed, scale)
    curves = {f"roc {name}": _membership_curve(member, values) for name, values in scores.items()}
    mu = _replace_one_mu(view.mechanism)
    if math.isfinite(mu):
        rates = _false_positive_rates()
        curves["bound"] = np.stack([rates, [membership_ceiling(rate, mu) for rate in rates]])
    return AttackOutcome(score_membership(scores, member, view, seed), curves)


def _mixed_images(
    first: LabelledImages,
    at: NDArray[np.int64],
    second: LabelledImages,
    there: NDArray[np.int64],
    order: NDArray[np.int64],
) -> LabelledImages:
    return LabelledImages(
        np.concatenate([first.images[at], second.images[there]])[order],
        np.concatenate([first.classes[at], second.classes[there]])[order],
    )


def _membership_answers(
    view: AdversaryView, chain: SegmentChain, images: NDArray[np.float32]
) -> NDArray[np.float64]:
    return evaluate_network(chain, clean_shadow_rows(view, images))


def _membership_auc(
    member: NDArray[np.bool_], values: NDArray[np.float64], at: NDArray[np.int64]
) -> float:
    chosen = member[at]
    # A bootstrap draw of one kind only has no AUC.
    if chosen.all() or not chosen.any():
        return math.nan
    # Mann and Whitney's statistic; ties count half. Fast enough to be drawn again and again.
    ranks, inside = rankdata(values[at]), int(chosen.sum())
    above = float(ranks[chosen].sum()) - inside * (inside + 1) / 2
    return above / (inside * (len(at) - inside))


def _membership_threshold(others: NDArray[np.float64], rate: float) -> float:
    """Return the value that at most ``rate`` of the non-members lie above."""
    # Set by the non-members: the attacker's rate of false alarms is what is fixed.
    return float(np.sort(others)[::-1][min(math.floor(rate * len(others)), len(others) - 1)])


def _low_at_rate(low: float, rate: float, others: int) -> float:
    """Return ``low`` true positives, less what a threshold that is too low by chance may give."""
    _, passed = clopper_pearson_interval(math.floor(rate * others), others)
    return float(ndtr(ndtri(rate) + ndtri(low) - ndtri(passed)))


def _membership_curve(
    member: NDArray[np.bool_], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return false- and true-positive rates float64 [2, points], dense at few false positives."""
    false, true, _ = roc_curve(member, values)
    rates = _false_positive_rates()
    at = np.searchsorted(false, rates, side="right") - 1
    return np.stack([rates, true[at]])


def _false_positive_rates() -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.geomspace(1e-4, 1, _ROC_POINTS - 1)])


def _replace_one_mu(mechanism: PublicMechanism) -> float:
    """Return mu between data sets in which another image stands in the target's place.

    A guarantee against the zero row holds twice over: one row goes, another comes.
    """
    return mechanism.mu if mechanism.relation == "replace-one" else 2 * mechanism.mu


MEMBERSHIP: Final = Attack(
    name="membership",
    knowledge=(
        "the target image and its class, the noise, 10,000 labelled images of the same "
        "distribution; trainer: its rows and the public front; outsider: answers of the network; "
        "whoever held the sums: these, informed: all samples but one"
    ),
    source="Carlini et al., S&P 2022; Yeom et al., 2018; release: derived",
    applies=_membership_applies,
    run=_run_membership,
)

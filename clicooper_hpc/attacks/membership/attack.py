"""Membership of known images: told from released rows, and from the delivered network.

How: `clicooper_hpc.attacks.membership.release` and `clicooper_hpc.attacks.membership.network`.
True positives at few false ones are what counts (Carlini et al., S&P 2022): an attack
that is sure of some people is worse than one that is slightly right about all. Differential privacy
bounds that figure (Dong, Roth and Su 2019); a measured one above it proves a wrong sensitivity. It
does so for the image: released sub-labels are exact unless randomised response is on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from clicooper_hpc.attacks.harness.registry import Attack, Outcome
from clicooper_hpc.attacks.harness.result import AttackResult
from clicooper_hpc.attacks.harness.view import Aux, Labelled, Mechanism, Truth, View
from clicooper_hpc.attacks.membership.network import composed, network_scores
from clicooper_hpc.attacks.membership.release import release_scores
from clicooper_hpc.attacks.rates import bootstrap, clopper_pearson
from clicooper_hpc.attacks.shadow_data import clean_rows, sees_released_rows
from clicooper_hpc.attacks.surrogate import Chain, evaluate
from clicooper_hpc.privacy.ceiling import membership_ceiling

__all__ = ["MEMBERSHIP", "guess", "score"]

#: Sub-label probabilities float64 [n, gamma K] of images.
Oracle = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_FALSE_POSITIVES: Final = (0.001, 0.01)
_TARGETS: Final = 3000
_POPULATION: Final = 5000
_ROC_POINTS: Final = 200


def guess(
    view: View, aux: Aux, targets: Labelled, oracle: Oracle | None, seed: int, scale: float
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
    if sees_released_rows(view) is None:
        rng = np.random.default_rng(seed)
        population = aux.same.images[rng.permutation(len(aux.same))[:_POPULATION]]
        found = release_scores(
            view.rows,
            clean_rows(view, targets.images),
            clean_rows(view, population),
            sigma=view.mechanism.sigma,
            group=view.groups.shape[1],
            seed=seed,
        )
        scores |= {f"released rows, {name}": values for name, values in found.items()}
    chain = composed(view)
    answers = oracle if chain is None else partial(_answers, view, chain)
    if answers is not None:
        found = network_scores(view, aux, targets, answers, seed, scale)
        scores |= {f"network, {name}": values for name, values in found.items()}
    return scores


def score(
    scores: Mapping[str, NDArray[np.float64]], member: NDArray[np.bool_], view: View, seed: int
) -> tuple[AttackResult, ...]:
    """Return AUC, and true positives at 0.1 % and 1 % false positives, of every variant.

    Intervals, 95 %: of the AUC by bootstrap over targets, of true positives Clopper-Pearson at the
    threshold that the non-members set. The baseline is a guess without looking.
    """
    mu = _replace_one_mu(view.mechanism)
    findings = []
    for variant, values in scores.items():
        auc = partial(_auc, member, values)
        low, high = bootstrap(auc, len(member), seed)
        note = f"{int(member.sum())} members, {int((~member).sum())} others"
        findings.append(
            AttackResult(
                attack="membership",
                variant=variant,
                party=view.party.name,
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
            found = int((values[member] > _threshold(values[~member], rate)).sum())
            low, high = clopper_pearson(found, int(member.sum()))
            findings.append(
                AttackResult(
                    attack="membership",
                    variant=variant,
                    party=view.party.name,
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
    return tuple(findings)


def _applies(view: View) -> str | None:
    if not len(view.rows):
        return None
    why = sees_released_rows(view)
    return None if why is None or composed(view) is not None else why


def _run(view: View, aux: Aux, truth: Truth, seed: int, scale: float) -> Outcome:
    """See `Attack.run`; arrays hold false- and true-positive rates float64 [2, points].

    ``roc VARIANT`` is measured, ``bound`` what the guarantee allows nobody to exceed.
    """
    rng = np.random.default_rng([seed, 1])
    trained = np.unique(view.groups) if view.groups.size else np.arange(len(truth.train))
    inside = rng.permutation(trained)[:_TARGETS]
    outside = rng.permutation(len(truth.test))[:_TARGETS]
    order = rng.permutation(len(inside) + len(outside))
    member = (np.arange(len(order)) < len(inside))[order]
    images = np.concatenate([truth.train.images[inside], truth.test.images[outside]])[order]
    classes = np.concatenate([truth.train.classes[inside], truth.test.classes[outside]])[order]
    oracle = truth.predict if not len(view.rows) else None
    scores = guess(view, aux, Labelled(images, classes), oracle, seed, scale)
    curves = {f"roc {name}": _curve(member, values) for name, values in scores.items()}
    mu = _replace_one_mu(view.mechanism)
    if math.isfinite(mu):
        rates = _rates()
        curves["bound"] = np.stack([rates, [membership_ceiling(rate, mu) for rate in rates]])
    return Outcome(score(scores, member, view, seed), curves)


def _answers(view: View, chain: Chain, images: NDArray[np.float32]) -> NDArray[np.float64]:
    return evaluate(chain, clean_rows(view, images))


def _auc(member: NDArray[np.bool_], values: NDArray[np.float64], at: NDArray[np.int64]) -> float:
    chosen = member[at]
    if chosen.all() or not chosen.any():
        return math.nan
    # Mann and Whitney's statistic; ties count half. Fast enough to be drawn again and again.
    ranks, inside = rankdata(values[at]), int(chosen.sum())
    above = float(ranks[chosen].sum()) - inside * (inside + 1) / 2
    return above / (inside * (len(at) - inside))


def _threshold(others: NDArray[np.float64], rate: float) -> float:
    """Return the value that at most ``rate`` of the non-members lie above."""
    return float(np.sort(others)[::-1][min(math.floor(rate * len(others)), len(others) - 1)])


def _curve(member: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return false- and true-positive rates float64 [2, points], dense at few false positives."""
    false, true, _ = roc_curve(member, values)
    rates = _rates()
    at = np.searchsorted(false, rates, side="right") - 1
    return np.stack([rates, true[at]])


def _rates() -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.geomspace(1e-4, 1, _ROC_POINTS - 1)])


def _replace_one_mu(mechanism: Mechanism) -> float:
    """Return mu between data sets in which another image stands in the target's place.

    A guarantee against the zero row holds twice over: one row goes, another comes.
    """
    return mechanism.mu if mechanism.relation == "replace-one" else 2 * mechanism.mu


MEMBERSHIP: Final = Attack(
    name="membership",
    knowledge=(
        "the target image and its class, the noise, 10,000 labelled images of the same "
        "distribution; trainer: its rows and the public front; outsider: answers of the network"
    ),
    source="Carlini et al., S&P 2022; Yeom et al., 2018; release: derived",
    applies=_applies,
    run=_run,
)

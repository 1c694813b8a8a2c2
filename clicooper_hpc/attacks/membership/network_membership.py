"""Was this image trained on? Told by the delivered network's confidence on it.

Loss threshold: Yeom et al., "Privacy Risk in Machine Learning", 2018. LiRA, offline, with one
variance for all targets as its authors advise for few shadow networks: Carlini et al., "Membership
Inference Attacks From First Principles", S&P 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.toolbox.label_names import class_scores_by_name, learn_label_names
from clicooper_hpc.attacks.toolbox.shadow_data import (
    clean_shadow_rows,
    release_shadow_rows,
    shadow_inputs,
)
from clicooper_hpc.attacks.toolbox.surrogate_network import (
    SegmentChain,
    SurrogateTraining,
    evaluate_network,
    fit_network,
    image_network,
    reinitialised_network,
    row_network,
    seed_network,
)

__all__ = ["composed_network", "network_membership_scores"]

# Images an attacker's shadow networks share, how many networks, and their passes; the latter
# fewer where rows are wide, for there a pass costs a hundred times as much.
_WIDE: Final = 1024
_NARROW_EFFORT, _WIDE_EFFORT = (10_000, 8, 30), (4_000, 3, 3)
_NAMED: Final = 2000


def composed_network(view: AdversaryView) -> SegmentChain | None:
    """Return the party's segments as one network from clean rows to sub-labels, None if not all."""
    numbers = sorted(view.segments)
    if view.front is None or not numbers or numbers != list(range(1, len(numbers) + 1)):
        return None
    chain = SegmentChain(view.segments[number] for number in numbers)
    if len(view.rows):
        with torch.no_grad():
            answer = chain(torch.from_numpy(view.rows[:1].copy()))
        # The last held segment is not the network's last.
        if answer.shape != (1, view.sub_label_count):
            return None
    return chain


def network_membership_scores(
    view: AdversaryView,
    aux: AuxiliaryData,
    targets: LabelledImages,
    answers: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    seed: int,
    scale: float,
) -> dict[str, NDArray[np.float64]]:
    """Score targets, whose classes the attacker knows: larger says member.

    Parameters
    ----------
    view, aux
        What the attacker holds. Shadow networks have the delivered architecture and learn rows
        of shadow data if the front is public, else they are convolution networks on images.
    targets
        Images in question.
    answers
        Sub-label probabilities of the delivered network.
    seed, scale
        Of all chance; share of the full effort.

    Returns
    -------
    dict[str, NDArray[np.float64]]
        ``"confidence"``: probability of the most probable sub-label. ``"loss"``: log-odds of the
        class, which rank as the loss, under names learnt from up to 2,000 labelled images.
        ``"LiRA"``: the same as log-odds, less their mean over shadow networks that never saw the
        target. Both also with the names of a class ``pooled`` (`class_scores_by_name`), not added
        up. float64 [t] each.
    """
    rng = np.random.default_rng(seed)
    count = int(aux.same.classes.max()) + 1
    said = answers(targets.images)
    named = rng.permutation(len(aux.same))[:_NAMED]
    # The attacker has no label map: it learns names from images of its own.
    names = learn_label_names(answers(aux.same.images[named]), aux.same.classes[named], count)
    found = {"confidence": said.max(axis=1)}
    expected = _shadow_log_odds(view, aux, targets, count, rng, scale)
    for tag, pooled in (("", False), (", pooled", True)):
        own = _log_odds(class_scores_by_name(said, names, count, pooled=pooled), targets.classes)
        found |= {f"loss{tag}": own, f"LiRA{tag}": own - expected[pooled]}
    return found


def _shadow_log_odds(
    view: AdversaryView,
    aux: AuxiliaryData,
    targets: LabelledImages,
    count: int,
    rng: np.random.Generator,
    scale: float,
) -> dict[bool, NDArray[np.float64]]:
    """Return the mean log-odds over shadow networks trained without the targets, by `pooled`."""
    inputs = shadow_inputs(view, targets.images)
    effort = _NARROW_EFFORT if inputs[0].size <= _WIDE and view.front else _WIDE_EFFORT
    images, shadows, epochs = (max(2, round(full * scale)) for full in effort)
    total = {pooled: np.zeros(len(targets)) for pooled in (False, True)}
    chosen = rng.permutation(len(aux.same))[: max(200, images)]
    pictures, classes = aux.same.images[chosen], aux.same.classes[chosen]
    clean = clean_shadow_rows(view, pictures) if view.front is not None else pictures
    gamma = max(1, view.sub_label_count // count)
    # Any map serves its own shadow networks, as long as classes have gamma names.
    owner = np.arange(count * gamma) // gamma
    for _ in range(shadows):
        seed = int(rng.integers(2**31))
        # Shadow networks differ in their training images, or their spread would be too small.
        half = rng.permutation(len(chosen))[: max(100, len(chosen) // 2)]
        rows = clean[half]
        if view.front is not None:
            rows = release_shadow_rows(view, rows, classes[half], rng)
        names = classes[half] * gamma + rng.integers(0, gamma, len(half))
        network = _shadow_network(view, rows, len(owner), seed)
        fit_network(network, rows, np.eye(len(owner))[names], SurrogateTraining(epochs, seed))
        answers = evaluate_network(network, inputs)
        for pooled, so_far in total.items():
            likely = class_scores_by_name(answers, owner, count, pooled=pooled)
            so_far += _log_odds(likely, targets.classes) / shadows
    return total


def _shadow_network(
    view: AdversaryView, rows: NDArray[np.float32], outputs: int, seed: int
) -> nn.Module:
    chain = composed_network(view)
    if chain is not None and outputs == view.sub_label_count:
        return reinitialised_network(chain.parts, seed)
    build = image_network if view.front is None else row_network
    return seed_network(seed, build(rows.shape[1:], outputs))


def _log_odds(
    probabilities: NDArray[np.float64], classes: NDArray[np.int64]
) -> NDArray[np.float64]:
    # Log-odds of certainty would be infinite.
    right = np.clip(probabilities[np.arange(len(classes)), classes], 1e-12, 1 - 1e-12)
    return np.asarray(np.log(right) - np.log1p(-right), dtype=np.float64)

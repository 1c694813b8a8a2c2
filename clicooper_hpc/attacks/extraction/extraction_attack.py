"""Stealing the delivered network: by asking it, or by fine-tuning segments that one holds.

Query attack: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019: images of the
adversary's own are sent to the victim and a surrogate learns its answers, here the probabilities of
sub-labels or the most probable sub-label alone. Stolen segments: their weights below a fresh head,
fine-tuned on a few labelled images (the surrogate of Fu et al., "Label Inference Attacks Against
Vertical Federated Learning", USENIX Security 2022, without its unlabelled part).

`clicooper_hpc.attacks.extraction.stolen_models` says what the stolen networks are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.extraction.stolen_models import (
    LABELS_PER_CLASS,
    StolenModels,
    score_stolen_models,
)
from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome
from clicooper_hpc.attacks.toolbox.label_names import draw_labelled_samples, learn_label_names
from clicooper_hpc.attacks.toolbox.shadow_data import shadow_inputs
from clicooper_hpc.attacks.toolbox.surrogate_network import (
    PositionMean,
    SegmentChain,
    SurrogateTraining,
    evaluate_network,
    fit_network,
    image_network,
    row_network,
    seed_network,
)

__all__ = ["EXTRACTION", "Oracle", "extract_models"]

#: Sub-label probabilities float64 [n, gamma K] of images: what one may ask the delivered network.
Oracle = Callable[[NDArray[np.float32]], NDArray[np.float64]]

_QUERIES: Final = 10_000
_EPOCHS: Final = 15
# On a few labels: passes, and the most steps of 128 images.
_LABEL_EPOCHS, _LABEL_STEPS = 100, 200
_HEAD_RATE: Final = 5e-3


def extract_models(
    view: AdversaryView, aux: AuxiliaryData, oracle: Oracle | None, seed: int, scale: float
) -> StolenModels:
    """Train surrogates on the victim's answers, and networks on the adversary's few labels.

    Parameters
    ----------
    view, aux
        What the adversary holds. A public front is used, a secret one is not needed: surrogates
        then learn from images. Of ``aux`` up to 10,000 images are sent and 10 labels per class
        read.
    oracle
        The victim, as it answers anyone; None for somebody who cannot ask it.
    seed, scale
        Of all chance; share of the queries and passes.
    """
    rng = np.random.default_rng(seed)
    labels = aux.same.classes
    count = int(labels.max()) + 1
    # Never fewer than 64 queries: below that the surrogate would say nothing about the victim.
    asked = rng.permutation(len(labels))[: max(64, round(_QUERIES * scale))]
    stolen = StolenModels(queries=len(asked) if oracle is not None else 0)
    sent = shadow_inputs(view, aux.same.images[asked]) if oracle is not None else None
    answers = oracle(aux.same.images[asked]) if oracle is not None else None
    # An owner who answers labels only gives less away; both are measured.
    for variant in ("probabilities", "hard labels"):
        if sent is not None and answers is not None:
            wanted = _hard_labels(answers) if variant == "hard labels" else answers
            network = _surrogate_for_view(view, sent.shape[1:], wanted.shape[1], seed)
            epochs = max(1, round(_EPOCHS * scale))
            images = view.front is None
            fit_network(network, sent, wanted, SurrogateTraining(epochs, seed, images=images))
            stolen.surrogates[variant] = network
    for k in LABELS_PER_CLASS:
        # One draw for all that follows, so that stolen and fresh networks see the same labels.
        draw = draw_labelled_samples(labels, k, rng)
        shown, known = aux.same.images[draw], labels[draw]
        inputs = shadow_inputs(view, shown)
        targets = np.eye(count)[known]
        passes = _extraction_passes(len(inputs), scale)
        if oracle is not None:
            said = oracle(shown)
            for variant, network in stolen.surrogates.items():
                seen = _hard_labels(said) if variant == "hard labels" else said
                # The surrogate's answer names the sub-labels that no labelled image was given.
                seen = (seen + evaluate_network(network, inputs)) / 2
                stolen.names[variant, k] = learn_label_names(seen, known, count)
            fresh = _surrogate_for_view(view, inputs.shape[1:], count, seed)
            training = SurrogateTraining(passes, seed, images=view.front is None)
            stolen.scratch[k] = fit_network(fresh, inputs, targets, training)
        if cannot_tune(view) is None:
            # The same architecture with fresh weights and the same labels: only the difference was
            # stolen.
            for kept, place in ((True, stolen.tuned), (False, stolen.untuned)):
                body = _stolen_body(view)
                if not kept:
                    seed_network(seed, body)
                network = _stolen_with_head(body, inputs, count, seed)
                slow = (body,) if kept else ()
                training = SurrogateTraining(passes, seed, learning_rate=_HEAD_RATE, slow=slow)
                place[k] = fit_network(network, inputs, targets, training)
    return stolen


def cannot_tune(view: AdversaryView) -> str | None:
    """Say why stolen segments cannot be fine-tuned; None if they can."""
    if view.front is None:
        return "the front is not public"
    if not view.segments or min(view.segments) != 1:
        return "the party lacks the segments behind the front"
    return None


def _extraction_applies(view: AdversaryView) -> str | None:
    if view.held is not None:
        return "it holds no segment, and what it may ask the delivered network is the outsider's"
    # Who was given no rows is an outsider, who may ask the delivered network.
    return None if not len(view.rows) else cannot_tune(view)


def _run_extraction(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    oracle = truth.predict if not len(view.rows) else None
    return AttackOutcome(
        score_stolen_models(extract_models(view, aux, oracle, seed, scale), truth, view, seed)
    )


def _surrogate_for_view(
    view: AdversaryView, shape: tuple[int, ...], outputs: int, seed: int
) -> nn.Module:
    build = image_network if view.front is None else row_network
    return seed_network(seed, build(shape, outputs))


def _extraction_passes(count: int, scale: float) -> int:
    """Return the passes over ``count`` labelled images."""
    batches = -(-count // 128)
    return max(1, round(min(_LABEL_EPOCHS, _LABEL_STEPS / batches) * scale))


def _stolen_body(view: AdversaryView) -> SegmentChain:
    """Copy segments 1, 2, ... as far as the party holds them, without the head that names."""
    parts: list[nn.Module] = []
    while len(parts) + 1 in view.segments:
        parts.append(deepcopy(view.segments[len(parts) + 1]))
    last = parts[-1]
    if isinstance(last, nn.Sequential) and len(last):
        head = last[-1]
        # The head names sub-labels, which the adversary cannot read; a fresh one learns classes.
        if isinstance(head, nn.Linear) and head.out_features == view.sub_label_count:
            parts[-1] = nn.Sequential(*list(last)[:-1])
    return SegmentChain(parts)


def _stolen_with_head(
    body: SegmentChain, inputs: NDArray[np.float32], count: int, seed: int
) -> nn.Module:
    body.eval()
    with torch.no_grad():
        # Asked of two rows, since the width behind foreign layers is nowhere written.
        width = PositionMean()(body(torch.from_numpy(np.ascontiguousarray(inputs[:2])))).shape[1]
    head = seed_network(seed, nn.Linear(int(width), count))
    return SegmentChain([body, PositionMean(), head])


def _hard_labels(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.eye(answers.shape[1])[answers.argmax(axis=1)], dtype=np.float64)


EXTRACTION: Final = Attack(
    name="extraction",
    knowledge=(
        "outsider: answers of the delivered network to 10,000 images of its own; trainer: its "
        "segments; both: 1, 5 or 10 labelled images per class; the front only if it is public"
    ),
    source="Orekondy et al., CVPR 2019; Fu et al., USENIX Security 2022",
    applies=_extraction_applies,
    run=_run_extraction,
)

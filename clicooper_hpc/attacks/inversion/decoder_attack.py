"""Pictures of the owner's samples from released rows, by a decoder trained on other images.

He, Zhang and Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019
(black box, with data): pull own images through the public front and learn the way back. Two
readings. Noise-unaware, the usual one in papers: trained on clean rows, used on noised ones, which
blames noise for what ignorance does. Noise-aware: the mechanism is public, so an attacker adds
fresh noise of it to every batch; it ends at the mean image where nothing can be seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import (
    Attack,
    AttackOutcome,
    AttackResult,
    MetricKind,
)
from clicooper_hpc.attacks.inversion.class_mean_pictures import guess_class_mean_pictures
from clicooper_hpc.attacks.inversion.decoder_pairs import decoder_images, decoder_pairs
from clicooper_hpc.attacks.inversion.decoder_training import decoder_images_seen, train_decoder
from clicooper_hpc.attacks.inversion.reconstruction_scores import (
    Reconstruction,
    cannot_reconstruct,
    choose_reconstruction_inputs,
    score_reconstruction,
)
from clicooper_hpc.attacks.inversion.retrieval_scores import score_row_retrieval

__all__ = ["DECODER", "guess_decoder_pictures"]

_TARGETS = 1000  # as many as candidates: top-1 of 1000 shows in no fewer
_SHOWN = 16


def _decoder_applies(view: AdversaryView) -> str | None:
    if view.front is None:
        return "the front is secret (a shadow model is not tried)"
    return None if view.held is not None else cannot_reconstruct(view)


def guess_decoder_pictures(
    view: AdversaryView, aux: AuxiliaryData, seed: int, scale: float
) -> tuple[Reconstruction, ...]:
    """Make pictures of at most 1000 inputs, with each set of images an attacker may have.

    ``"public"``: the public set alone. ``"same and public"``: images of the owner's distribution
    too; ``"same"``: these alone, where the job names no public set. No labels are used.
    """
    sigma = view.mechanism.sigma
    inputs = choose_reconstruction_inputs(view, _TARGETS, seed)
    made = []
    for knowledge, images, own in decoder_images(aux, view, seed):
        pairs = decoder_pairs(view, images, own)
        note = f"{len(images)} images of {knowledge}, {decoder_images_seen(scale)} seen, no labels"
        # Random images of its own: what a guess without any row would score.
        draws = np.random.default_rng(seed).integers(0, own, len(inputs))
        # Without noise the two readings are one.
        readings: tuple[tuple[str, float, tuple[MetricKind, ...]], ...] = (
            (("noise-unaware", 0.0, ("paper",)), ("noise-aware", sigma, ("honest",)))
            if sigma > 0
            else (("no noise", 0.0, ("paper", "honest")),)
        )
        for reading, expected, kinds in readings:
            decoder = train_decoder(pairs, expected, seed, scale)
            made.append(
                Reconstruction(
                    inputs,
                    decoder.pictures(view.rows[inputs]),
                    pairs.mean_image,
                    images[draws],
                    f"{reading}, {knowledge}",
                    note,
                    kinds,
                )
            )
    return tuple(made)


def _run_decoder(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """See `Attack.run`; arrays hold 16 originals, each variant's pictures, and the mean image."""
    if view.held is not None:
        # Asked about samples, of which no row was given.
        view = replace(view, groups=np.arange(len(truth.train))[:, np.newaxis])
        reconstructions = guess_class_mean_pictures(view, aux, truth, seed, scale)
    else:
        reconstructions = guess_decoder_pictures(view, aux, seed, scale)
    results: list[AttackResult] = []
    first = reconstructions[0]
    # The same inputs in every variant, so that pictures stand beside each other in the figure.
    shown = first.inputs[:_SHOWN]
    arrays = {
        "originals": truth.train.images[view.groups[shown, 0]],
        "mean image": first.mean_image[None],
    }
    for made in reconstructions:
        arrays[made.variant] = made.pictures[:_SHOWN]
        results += score_reconstruction(made, view, truth, attack=DECODER.name, seed=seed)
    if len(view.rows):
        results += score_row_retrieval(first.inputs, view, truth, attack=DECODER.name, seed=seed)
    return AttackOutcome(tuple(results), arrays)


DECODER: Final = Attack(
    name="decoder",
    knowledge="public front, mechanism, unlabelled images of the same or another distribution",
    source="He et al., ACSAC 2019",
    applies=_decoder_applies,
    run=_run_decoder,
)

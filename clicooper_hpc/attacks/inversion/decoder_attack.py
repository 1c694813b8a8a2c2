"""Pictures of the owner's samples from released rows, by a decoder trained on other images.

He, Zhang and Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019
(black box, with data): pull own images through the public front and learn the way back. Two
readings. Noise-unaware, the usual one in papers: trained on clean rows, used on noised ones, which
blames noise for what ignorance does. Noise-aware: the mechanism is public, so an attacker adds
fresh noise of it to every batch; it ends at the mean image where nothing can be seen.
"""

from __future__ import annotations

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
from clicooper_hpc.attacks.inversion.decoder_training import (
    DecoderPairs,
    decoder_images_seen,
    train_decoder,
)
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
# The attacker's clean rows held in memory: 2^27 numbers are 512 MiB.
_NUMBERS = 2**27
_IMAGES = 20_000
# Validation chooses the best epoch and the shrinkage; more would be missing from training.
_HELD = 512
_BLOCK = 1024


def _decoder_applies(view: AdversaryView) -> str | None:
    if view.front is None:
        return "the front is secret (a shadow model is not tried)"
    return cannot_reconstruct(view)


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
    for knowledge, images, own in _decoder_images(aux, view, seed):
        pairs = _decoder_pairs(view, images, own)
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


def _decoder_images(
    aux: AuxiliaryData, view: AdversaryView, seed: int
) -> list[tuple[str, NDArray[np.float32], int]]:
    """Return name, images and how many of these, at the front, are of the named distribution."""
    limit = max(64, min(_IMAGES, _NUMBERS // max(1, int(np.prod(view.rows.shape[1:])))))
    random = np.random.default_rng(seed)
    own = aux.same.images[random.permutation(len(aux.same))[:limit]]
    if aux.public is None:
        return [("same", own, len(own))]
    other = aux.public.images[random.permutation(len(aux.public))[:limit]]
    # Own images first: the front of the list is what validation and the mean image are taken from.
    both = np.concatenate([own, other[: limit - len(own)]])
    return [("same and public", both, len(own)), ("public", other, len(other))]


def _decoder_pairs(view: AdversaryView, images: NDArray[np.float32], own: int) -> DecoderPairs:
    if view.front is None:
        raise ValueError("a decoder needs the front")
    shape = view.rows.shape[1:]
    rows = np.empty((len(images), *shape), dtype=np.float32)
    for start in range(0, len(images), _BLOCK):
        part = images[start : start + _BLOCK]
        rows[start : start + len(part)] = view.clip(view.front(part)).reshape(len(part), *shape)
    # At most a quarter of the images of the named distribution, or few of them would be left to
    # learn from.
    held = max(1, min(_HELD, len(images) // 10, own // 4))
    mean = images[:own].mean(axis=0, dtype=np.float64).astype(np.float32)
    return DecoderPairs(rows, images, held, mean)


def _run_decoder(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """See `Attack.run`; arrays hold 16 originals, each variant's pictures, and the mean image."""
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
    results += score_row_retrieval(first.inputs, view, truth, attack=DECODER.name, seed=seed)
    return AttackOutcome(tuple(results), arrays)


DECODER: Final = Attack(
    name="decoder",
    knowledge="public front, mechanism, unlabelled images of the same or another distribution",
    source="He et al., ACSAC 2019",
    applies=_decoder_applies,
    run=_run_decoder,
)

"""Pictures of the owner's samples from released rows, with a generative prior of images.

What a decoder learns for one mechanism is taken apart: a diffusion model learns what images look
like, and the public front and noise say how well an image explains a row. Pictures are samples of
images given the row; their mean is the guess of least squared error. Beside it stands the sample
whose row is nearest to the released one: the likelihood alone chooses it, not the prior.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, GroundTruth
from clicooper_hpc.attacks.harness.attack import Attack, AttackOutcome, AttackResult
from clicooper_hpc.attacks.inversion.decoder_pairs import decoder_images
from clicooper_hpc.attacks.inversion.decoder_training import least_squares_shrinkage
from clicooper_hpc.attacks.inversion.diffusion_prior import (
    prior_images_seen,
    train_diffusion_prior,
)
from clicooper_hpc.attacks.inversion.posterior_sampling import (
    FIT_STEPS,
    POSTERIOR_LEVELS,
    PosteriorProblem,
    sample_posterior_pictures,
)
from clicooper_hpc.attacks.inversion.reconstruction_scores import (
    Reconstruction,
    choose_reconstruction_inputs,
    score_reconstruction,
)
from clicooper_hpc.attacks.inversion.tensor_front import (
    SEARCHED_INPUTS,
    cannot_search,
    matched_sigma,
    tensor_front,
    tensor_front_rows,
)

__all__ = ["DIFFUSION", "guess_diffusion_pictures"]

_SAMPLES = 8
# Images kept from the prior, which tell how far from the mean image pictures should go.
_HELD = 16
_SHOWN = 16


def guess_diffusion_pictures(
    view: AdversaryView, aux: AuxiliaryData, seed: int, scale: float
) -> tuple[Reconstruction, ...]:
    """Make pictures of at most 32 inputs, with each set of images an attacker may have.

    The sets are those of `clicooper_hpc.attacks.inversion.decoder_attack`. Of each there are two
    readings: the mean of the samples of a row, and the sample whose row is nearest.
    """
    front = tensor_front(view)
    inputs = choose_reconstruction_inputs(view, SEARCHED_INPUTS, seed)
    samples = max(2, round(scale * _SAMPLES))
    made = []
    for knowledge, images, own in decoder_images(aux, view, seed):
        random = np.random.default_rng(seed)
        held = max(1, min(_HELD, own // 4))
        prior = train_diffusion_prior(images[held:], seed, scale)
        clean = tensor_front_rows(front, images[:held], view)
        problem = PosteriorProblem(prior, front, matched_sigma(view, clean))
        # Its own rows are noised as the owner's are.
        noise = view.mechanism.sigma * random.standard_normal(clean.shape)
        rows = np.concatenate([(clean + noise).astype(np.float32), view.rows[inputs]])
        average, nearest = _mean_and_nearest(problem, rows, samples, seed)
        mean = images[:own].mean(axis=0, dtype=np.float64).astype(np.float32)
        shrink = least_squares_shrinkage(
            torch.from_numpy(average[:held] - mean), torch.from_numpy(images[:held] - mean)
        )
        shrunk = mean + np.float32(shrink) * (average[held:] - mean)
        others = images[random.integers(0, own, len(inputs))]
        note = (
            f"{len(images)} images of {knowledge}, {prior_images_seen(scale)} seen, no labels; "
            f"{samples} samples of {POSTERIOR_LEVELS} levels and {FIT_STEPS} steps"
        )
        pictures = {
            # Towards the mean image as far as its own images say, as a decoder's are.
            "posterior mean": np.clip(shrunk, 0.0, 1.0),
            "nearest sample": nearest[held:],
        }
        made += [
            Reconstruction(inputs, one, mean, others, f"{reading}, {knowledge}", note)
            for reading, one in pictures.items()
        ]
    return tuple(made)


def _mean_and_nearest(
    problem: PosteriorProblem, rows: NDArray[np.float32], samples: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of ``samples`` pictures of each row, and the one whose row is nearest."""
    pictures, misfits = sample_posterior_pictures(problem, np.repeat(rows, samples, axis=0), seed)
    pictures = pictures.reshape(len(rows), samples, *pictures.shape[1:])
    nearest = misfits.reshape(len(rows), samples).argmin(axis=1)
    return pictures.mean(axis=1), pictures[np.arange(len(rows)), nearest]


def _run_diffusion(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    """See `Attack.run`; arrays hold 16 originals, each variant's pictures, and the mean image."""
    reconstructions = guess_diffusion_pictures(view, aux, seed, scale)
    first = reconstructions[0]
    arrays = {
        "originals": truth.train.images[view.groups[first.inputs[:_SHOWN], 0]],
        "mean image": first.mean_image[None],
    }
    results: list[AttackResult] = []
    for made in reconstructions:
        arrays[made.variant] = made.pictures[:_SHOWN]
        results += score_reconstruction(made, view, truth, attack=DIFFUSION.name, seed=seed)
    return AttackOutcome(tuple(results), arrays)


DIFFUSION: Final = Attack(
    name="diffusion",
    knowledge="public front with its weights, mechanism, unlabelled images as for the decoder",
    source="Song and Ermon, NeurIPS 2019; Chung et al., ICLR 2023; Zhang et al., CVPR 2025",
    applies=cannot_search,
    run=_run_diffusion,
)

"""Pictures of the owner's samples from released class sums, granted to an attacker.

A class sum over its noised size, or over the size that the attacker's own images let expect, is
the mean row of a class. What a decoder makes of it is one
picture for all samples of the class, near the mean image of the class: its likeness to a sample is
what the class tells, not the sample. The informed attacker knows all samples of the class but one,
takes them off the sum, and is left with that sample's row under the noise of the whole release: the
most that class sums can show of a sample.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import (
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
)
from clicooper_hpc.attacks.harness.summed_release import HeldRelease, SummedRelease
from clicooper_hpc.attacks.inversion.decoder_pairs import decoder_images, decoder_pairs
from clicooper_hpc.attacks.inversion.decoder_training import (
    DecoderPairs,
    decoder_images_seen,
    train_decoder,
)
from clicooper_hpc.attacks.inversion.linear_decoder import fit_linear_decoder
from clicooper_hpc.attacks.inversion.reconstruction_scores import (
    Reconstruction,
    choose_reconstruction_inputs,
    reconstruction_ssim,
)
from clicooper_hpc.attacks.toolbox.summed_mechanism import (
    RELEASES,
    recorded_mechanism,
    repeated_releases,
)
from clicooper_hpc.attacks.toolbox.summed_rows import class_sizes, summed_rows

__all__ = ["class_mean_rows", "guess_class_mean_pictures"]

_TARGETS = 1000


def class_mean_rows(release: SummedRelease, classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean row of each class as released, float32 [K, p].

    ``classes``: int64 [n] of the attacker's own images, for sizes that were not released.
    """
    sizes = class_sizes(release, classes)
    return (release.sums / sizes[:, np.newaxis]).astype(np.float32)


def guess_class_mean_pictures(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> tuple[Reconstruction, ...]:
    """Make pictures of at most 1000 samples whose classes are known, by each set of images.

    ``"class mean"`` by a trained and by the best linear decoder, ``"informed"`` by a trained one.
    ``view.groups`` are all samples, one each.
    """
    if view.held is None:
        raise ValueError("class means need released sums")
    released = view.held.released
    inputs = choose_reconstruction_inputs(view, _TARGETS, seed)
    samples = LabelledImages(truth.train.images[inputs], truth.train.classes[inputs])
    means = class_mean_rows(released, aux.same.classes)
    mean_noise = released.sigma * len(means) / released.samples
    made = []
    for knowledge, images, own in decoder_images(aux, view, seed):
        pairs = decoder_pairs(view, images, own)
        draws = np.random.default_rng(seed).integers(0, own, len(inputs))
        trained = f"{len(images)} images of {knowledge}, {decoder_images_seen(scale)} seen"
        of_class = f"class means of {aux_class_likeness(aux, samples):.4f} for the attacker's own"
        for variant, pictures, note in (
            (
                "class mean",
                _pictures_of_means(view, pairs, means, mean_noise, seed, scale)[samples.classes],
                f"{trained}; SSIM of {of_class}",
            ),
            (
                "class mean, linear",
                _linear_pictures(pairs, means, mean_noise, seed)[samples.classes],
                f"{len(images)} images of {knowledge}; SSIM of {of_class}",
            ),
            (
                "informed",
                train_decoder(pairs, released.sigma, seed, scale).pictures(
                    _informed_rows(view, view.held, samples, seed)
                ),
                f"{trained}; all samples but the one known",
            ),
        ):
            made.append(
                Reconstruction(
                    inputs,
                    pictures,
                    pairs.mean_image,
                    images[draws],
                    f"{variant}, {knowledge}",
                    note,
                )
            )
    return tuple(made)


def aux_class_likeness(aux: AuxiliaryData, samples: LabelledImages) -> float:
    """Return the mean SSIM of samples to the mean image of the attacker's own of their class."""
    count = max(int(aux.same.classes.max()), int(samples.classes.max())) + 1
    overall = aux.same.images.mean(axis=0, dtype=np.float64)
    means = np.stack(
        [
            chosen.mean(axis=0, dtype=np.float64) if len(chosen) else overall
            for chosen in (aux.same.images[aux.same.classes == one] for one in range(count))
        ]
    ).astype(np.float32)
    return float(reconstruction_ssim(samples.images, means[samples.classes]).mean())


def _pictures_of_means(
    view: AdversaryView,
    pairs: DecoderPairs,
    means: NDArray[np.float32],
    sigma: float,
    seed: int,
    scale: float,
) -> NDArray[np.float32]:
    decoder = train_decoder(pairs, sigma, seed, scale)
    return decoder.pictures(means.reshape(len(means), *view.rows.shape[1:]))


def _linear_pictures(
    pairs: DecoderPairs, means: NDArray[np.float32], sigma: float, seed: int
) -> NDArray[np.float32]:
    # What a linear map makes of a mean is the mean of what it makes of each; no network does that.

    decoder = fit_linear_decoder(pairs.rows, pairs.images, sigma, seed)
    made = decoder(torch.from_numpy(means)).numpy().reshape(len(means), *pairs.images.shape[1:])
    return np.asarray(np.clip(made, 0.0, 1.0), dtype=np.float32)


def _informed_rows(
    view: AdversaryView, held: HeldRelease, samples: LabelledImages, seed: int
) -> NDArray[np.float32]:
    """Return what is left of the class sum of each sample when all others are taken off.

    Samples of a class asked of one release share its noise, and a figure over them would hang on
    one draw a class: they are dealt over `repeated_releases`.
    """
    spec = view.mechanism.spec
    mechanism = None if spec is None else recorded_mechanism(view.release, spec, "decoder", seed)
    rng = np.random.default_rng([seed, 1])
    dealt = rng.integers(0, 1 if mechanism is None else RELEASES, len(samples))
    left = summed_rows(view, samples).rows
    for number, release in enumerate(repeated_releases(held, mechanism)):
        at = np.flatnonzero(dealt == number)
        # The sum of the others is known: with it gone, its own row and its class's noise are left.
        left[at] += (release.released.sums - release.exact.sums)[samples.classes[at]]
    return left.astype(np.float32).reshape(len(left), *view.rows.shape[1:])

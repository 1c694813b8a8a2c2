"""Training of an image decoder on an attacker's own images, with fresh noise at each step."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from clicooper_hpc.attacks.inversion.decoder_network import DecoderNetwork, build_decoder_network
from clicooper_hpc.attacks.inversion.linear_decoder import fit_linear_decoder
from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = [
    "DecoderPairs",
    "TrainedDecoder",
    "decoder_images_seen",
    "least_squares_shrinkage",
    "train_decoder",
]

_BATCH = 64
_LEARNING_RATE = 2e-3
# Images seen in training at full strength: minutes on one core; a GPU gets further in less.
_SEEN_CPU, _SEEN_GPU = 20_000, 400_000


@dataclass(frozen=True, slots=True, eq=False)
class DecoderPairs:
    """Clean rows and their images; the first ``held`` are for validation.

    Parameters
    ----------
    rows
        float32 [n, ...].
    images
        float32 [n, channels, height, width].
    held
        Pairs kept from training, at least 1.
    mean_image
        float32 [channels, height, width]: the best guess without a row.
    """

    rows: NDArray[np.float32]
    images: NDArray[np.float32]
    held: int
    mean_image: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedDecoder:
    """A decoder, and how far from the mean image its guesses should go.

    Parameters
    ----------
    decoder
        The network with the lowest validation error.
    mean_image
        As in `DecoderPairs`.
    shrink
        In [0, 1]: 1 takes the decoder's word, 0 the mean image; least squares on validation
        images with noise. 1 for a noise-unaware decoder.
    """

    decoder: DecoderNetwork
    mean_image: NDArray[np.float32]
    shrink: float

    def pictures(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images float32 [n, channels, height, width] in [0, 1] for released rows."""
        device = self.decoder.centre.device
        made = [
            _decoder_forward(self.decoder, torch.from_numpy(rows[i : i + 256]).to(device))
            .cpu()
            .numpy()
            for i in range(0, len(rows), 256)
        ]
        # No rows give no pictures, in the right shape.
        guess = np.concatenate(made) if made else np.empty((0, *self.mean_image.shape), np.float32)
        # Towards the mean image as far as validation says: the least error when little can be seen.
        mixed = self.mean_image + np.float32(self.shrink) * (guess - self.mean_image)
        return np.clip(mixed, 0.0, 1.0).astype(np.float32)


def decoder_images_seen(scale: float) -> int:
    """Return how many images a decoder sees in training on this machine, repeats counted."""
    # By what there is: the table's note says how many images were seen.
    full = _SEEN_GPU if torch.cuda.is_available() else _SEEN_CPU
    return max(2 * _BATCH, round(scale * full))


def train_decoder(pairs: DecoderPairs, sigma: float, seed: int, scale: float) -> TrainedDecoder:
    """Train a decoder for rows with noise of standard deviation ``sigma``, 0 for clean rows.

    Adam, cosine learning rate, mean squared error (He et al., ACSAC 2019); the state
    with the lowest validation error of all epochs is kept, the untrained linear guess among them.
    """
    device = attack_device()
    generator = torch.Generator().manual_seed(seed)
    held = pairs.held
    rows, images = torch.from_numpy(pairs.rows), torch.from_numpy(pairs.images)
    # Fitted without the validation images, which would otherwise look better than they are.
    linear = fit_linear_decoder(pairs.rows[held:], pairs.images[held:], sigma, seed).to(device)
    shape = (pairs.images.shape[1], pairs.images.shape[2], pairs.images.shape[3])
    decoder = build_decoder_network(pairs.rows[held:], shape, sigma, linear, seed).to(device)

    def noised(clean: Tensor) -> Tensor:
        if sigma > 0:
            # Fresh noise in each batch: a decoder that sees a row twice with the same noise learns
            # the noise.
            clean = clean + sigma * torch.randn(clean.shape, generator=generator)
        return clean.to(device)

    # One draw of noise for validation, or epochs could not be compared.
    check_rows, check_images = noised(rows[:held]), images[:held].to(device)
    count = len(rows) - held
    batches = max(1, count // _BATCH)
    steps = decoder_images_seen(scale) // _BATCH
    optimiser = torch.optim.Adam(decoder.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    lowest, best = _decoder_error(decoder, check_rows, check_images), copy.deepcopy(decoder)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        batch = step % batches
        if batch == 0:
            order = held + torch.randperm(count, generator=generator)
        chosen = order[batch * _BATCH : (batch + 1) * _BATCH]
        decoder.train()
        made = decoder(noised(rows[chosen]))
        loss = functional.mse_loss(made, images[chosen].to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if batch == batches - 1 or step == steps - 1:
            error = _decoder_error(decoder, check_rows, check_images)
            # Over-training shows in validation only; the untrained linear guess is a candidate too.
            if error < lowest:
                lowest, best = error, copy.deepcopy(decoder)
    shrink = 1.0
    if sigma > 0:
        mean = torch.from_numpy(pairs.mean_image).to(device)
        shrink = least_squares_shrinkage(
            _decoder_forward(best, check_rows) - mean, check_images - mean
        )
    return TrainedDecoder(best, pairs.mean_image, shrink)


def least_squares_shrinkage(guess: Tensor, wanted: Tensor) -> float:
    """Return a of the least squares ``wanted = a guess``, in [0, 1]."""
    power = float(guess.square().sum())
    return min(max(float((guess * wanted).sum()) / power, 0.0), 1.0) if power > 0 else 0.0


def _decoder_forward(decoder: DecoderNetwork, rows: Tensor) -> Tensor:
    decoder.eval()
    with torch.inference_mode():
        made: Tensor = decoder(rows)
    return made


def _decoder_error(decoder: DecoderNetwork, rows: Tensor, wanted: Tensor) -> float:
    return float(functional.mse_loss(_decoder_forward(decoder, rows), wanted))

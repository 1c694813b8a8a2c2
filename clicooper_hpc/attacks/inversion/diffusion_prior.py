"""A diffusion model of images: what an image looks like, learnt from an attacker's own.

One network removes noise of every level (Song and Ermon, "Generative Modeling by Estimating
Gradients of the Data Distribution", NeurIPS 2019; Ho, Jain and Abbeel, "Denoising Diffusion
Probabilistic Models", NeurIPS 2020): the expected image behind a noised one is the score of the
noised images, times the level squared, plus the noised image (Tweedie's formula). It starts as the
Wiener filter of a normal distribution and learns what a linear filter lacks.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from clicooper_hpc.attacks.inversion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = [
    "HIGHEST_LEVEL",
    "LOWEST_LEVEL",
    "DiffusionPrior",
    "prior_images_seen",
    "train_diffusion_prior",
]

#: Levels of noise the network learns, in units of the pixel range [0, 1]. Above the highest hardly
#: more than the normal distribution can be told; below the lowest nothing is left to remove.
LOWEST_LEVEL, HIGHEST_LEVEL = 0.01, 2.0

_WIDTH, _NORM_GROUPS = 32, 8
# Maps inside the network have at most this side: larger images cost no more.
_SIDE = 16
_BATCH = 64
_LEARNING_RATE = 2e-3
# Images seen in training at full strength: minutes on one core; a GPU gets further in less.
_SEEN_CPU, _SEEN_GPU = 80_000, 1_000_000


class DiffusionPrior(nn.Module):
    """Denoiser of flat images float32 [n, p] for levels float32 [n, 1].

    Parameters
    ----------
    image_shape
        ``(channels, height, width)``, p numbers.
    gaussian
        The normal distribution it starts from.
    """

    def __init__(self, image_shape: tuple[int, int, int], gaussian: GaussianPrior) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.gaussian = gaussian
        channels, height, width = image_shape
        # Pixels of a square of this side go into one place of a map, and come out of it again.
        self._stride = 2 ** max(0, math.ceil(math.log2(max(height, width) / _SIDE)))
        # A 3x3 square of such places. What goes in: the noised image, the filtered one, the level.
        self._first = nn.Conv2d(
            2 * channels + 1, _WIDTH, self._stride + 2, stride=self._stride, padding=1
        )
        self._fine = _ResidualBlock(_WIDTH)
        self._coarse = nn.Sequential(
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, padding=1),
            _ResidualBlock(2 * _WIDTH),
            nn.Conv2d(2 * _WIDTH, _WIDTH, 3, padding=1),
        )
        self._end = _ResidualBlock(_WIDTH)
        self._last = nn.Conv2d(_WIDTH, channels * self._stride**2, 3, padding=1)
        # Zero: the untrained network is the Wiener filter.
        nn.init.zeros_(self._last.weight)
        if self._last.bias is not None:
            nn.init.zeros_(self._last.bias)

    def forward(self, noised: Tensor, level: Tensor) -> Tensor:
        """Return the expected images [n, p] behind ``noised`` = image + N(0, level^2)."""
        gaussian, (_, height, width) = self.gaussian, self.image_shape
        count = len(noised)
        linear = gaussian.denoise(noised, level)
        deviation = gaussian.deviation()
        # All three of about unit size, whatever the level.
        whole = (noised - gaussian.mean) / (level.square() + deviation**2).sqrt()
        filtered = (linear - gaussian.mean) / deviation
        place = (level.log() / 2).reshape(count, 1, 1, 1).expand(count, 1, height, width)
        images = [one.reshape(count, *self.image_shape) for one in (whole, filtered)]
        maps = torch.cat([*images, place], dim=1)
        # Whole squares of pixels, or a single line of a vector would be too low.
        maps = functional.pad(maps, (0, -width % self._stride, 0, -height % self._stride))
        maps = maps.contiguous(memory_format=torch.channels_last)
        maps = self._fine(self._first(maps))
        wide = self._coarse(functional.avg_pool2d(maps, 2, ceil_mode=True))
        wide = functional.interpolate(wide, scale_factor=2.0)
        # Odd sides come back one longer.
        maps = self._end(maps + wide[..., : maps.shape[2], : maps.shape[3]])
        added = functional.pixel_shuffle(self._last(functional.silu(maps)), self._stride)
        added = added[..., :height, :width].reshape(count, -1)
        # In units of what the filter leaves: all levels count alike in training.
        denoised: Tensor = linear + gaussian.left(level) * added
        return denoised


class _ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what they were given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._layers = nn.Sequential(
            nn.GroupNorm(_NORM_GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        added: Tensor = self._layers(maps)
        return maps + added


def prior_images_seen(scale: float) -> int:
    """Return how many images a prior sees in training on this machine, repeats counted."""
    full = _SEEN_GPU if torch.cuda.is_available() else _SEEN_CPU
    return max(2 * _BATCH, round(scale * full))


def train_diffusion_prior(images: NDArray[np.float32], seed: int, scale: float) -> DiffusionPrior:
    """Train a denoiser on images float32 [n, channels, height, width] in [0, 1].

    Denoising score matching (Vincent, Neural Computation 2011): the squared error of denoised
    images, levels drawn evenly in their logarithm, in units of what the Wiener filter leaves. Adam,
    cosine learning rate.
    """
    device = attack_device()
    generator = torch.Generator().manual_seed(seed)
    gaussian = fit_gaussian_prior(images, seed).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = DiffusionPrior((images.shape[1], images.shape[2], images.shape[3]), gaussian)
    for parameter in prior.parameters():
        if parameter.ndim == 4:  # twice as fast on a CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    prior = prior.to(device)
    steps = prior_images_seen(scale) // _BATCH
    optimiser = torch.optim.Adam(prior.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    flat = torch.from_numpy(images.reshape(len(images), -1))
    for _ in range(steps):
        chosen = torch.randint(len(flat), (_BATCH,), generator=generator)
        share = torch.rand((_BATCH, 1), generator=generator)
        levels = (LOWEST_LEVEL * (HIGHEST_LEVEL / LOWEST_LEVEL) ** share).to(device)
        clean = flat[chosen]
        noise = torch.randn(clean.shape, generator=generator).to(device)
        clean = clean.to(device)
        missing = prior(clean + levels * noise, levels) - clean
        loss = (missing / gaussian.left(levels)).square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return prior.eval().requires_grad_(False)

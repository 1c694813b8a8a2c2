"""Pictures drawn from what an image prior and a noised row say together.

Annealed from much noise to little: denoise the picture by the prior, let the row correct it within
what the prior leaves open, add noise of the next level (decoupled noise annealing: Zhang et al.,
"Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing", CVPR 2025; the problem
is that of Chung et al., "Diffusion Posterior Sampling for General Noisy Inverse Problems", ICLR
2023, without gradients through the network). What the prior leaves open is taken as
normal, with the covariance of the Gaussian prior at that level. A sample of it given the row is the
nearest fit to a row and a guess that were both perturbed (randomise, then optimise: Bardsley et
al., SIAM J. Sci. Comput. 2014). For normal images and a linear front pictures have the law of
images given the row, up to the steps of the fit and what the last level leaves open; an
approximation else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.attacks.inversion.diffusion_prior import DiffusionPrior
from clicooper_hpc.attacks.inversion.tensor_front import TensorFront
from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = ["FIT_STEPS", "POSTERIOR_LEVELS", "PosteriorProblem", "sample_posterior_pictures"]

#: Levels of noise, and steps of Adam that fit the row at each; half as many of either lose little.
POSTERIOR_LEVELS, FIT_STEPS = 12, 16
# Where the levels begin and end, in units of the pixel range; the Gaussian prior alone is before.
_FIRST, _LAST = 1.0, 0.02
# In standard deviations of what the prior leaves open.
_LEARNING_RATE = 0.2
_BLOCK = 64  # rows at once: a wide front of more would take much memory


@dataclass(frozen=True, slots=True, eq=False)
class PosteriorProblem:
    """A prior of images, and how a row is made of one.

    Parameters
    ----------
    prior
        Of flat images.
    front
        With the clip.
    sigma
        Standard deviation of the noise of a row's numbers, above 0.
    """

    prior: DiffusionPrior
    front: TensorFront
    sigma: float


def sample_posterior_pictures(
    problem: PosteriorProblem, rows: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw one picture for each row.

    Parameters
    ----------
    problem
        The prior, the front and the noise.
    rows
        float32 [n, ...].
    seed
        Of the draw.

    Returns
    -------
    tuple[NDArray[np.float32], NDArray[np.float32]]
        Pictures [n, channels, height, width] in [0, 1], and the squared distance of each picture's
        row from the released one, float32 [n].
    """
    generator = torch.Generator().manual_seed(seed)
    shape = problem.prior.image_shape
    pictures = np.empty((len(rows), *shape), dtype=np.float32)
    misfits = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        released = torch.from_numpy(rows[block]).to(attack_device())
        sample = _sample_block(problem, released, generator).clamp(0.0, 1.0)
        with torch.no_grad():
            missed = problem.front(sample.reshape(-1, *shape)) - released
        pictures[block] = sample.reshape(-1, *shape).cpu().numpy()
        misfits[block] = missed.flatten(1).square().sum(dim=1).cpu().numpy()
    return pictures, misfits


def _sample_block(
    problem: PosteriorProblem, released: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw an image [n, p] for each of a few rows."""
    prior = problem.prior
    # Before the first level nothing is known of a picture but that it is an image.
    guess, level = prior.gaussian.mean.expand(len(released), -1), math.inf
    for step in range(POSTERIOR_LEVELS):
        row_noise, pull, noise = (
            torch.randn(shape, generator=generator).to(released.device)
            for shape in (released.shape, guess.shape, guess.shape)
        )
        wanted = released + problem.sigma * row_noise
        sample = _fit_rows(problem, wanted, guess, level, pull)
        level = _FIRST * (_LAST / _FIRST) ** (step / (POSTERIOR_LEVELS - 1))
        with torch.no_grad():
            guess = prior(sample + level * noise, torch.full_like(sample[:, :1], level))
    # Nothing is drawn of what the last level leaves open: the best fit alone, without perturbing.
    return _fit_rows(problem, released, guess, level, torch.zeros_like(guess))


def _fit_rows(
    problem: PosteriorProblem, wanted: Tensor, guess: Tensor, level: float, pull: Tensor
) -> Tensor:
    """Return the images [n, p] of the best fit to ``wanted`` rows and to ``guess`` of ``level``.

    ``pull`` [n, p] is added to the guess, in standard deviations of what the prior leaves open.
    """
    gaussian, shape = problem.prior.gaussian, problem.prior.image_shape
    # Steps in those units: fine details move as easily as brightness.
    away = pull.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([away], lr=_LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / FIT_STEPS, FIT_STEPS - 1)
    for _ in range(FIT_STEPS):
        images = (guess + gaussian.spread(away, level)).reshape(len(guess), *shape)
        misfit = (problem.front(images) - wanted).square().sum() / problem.sigma**2
        cost = (misfit + (away - pull).square().sum()) / 2
        optimiser.zero_grad(set_to_none=True)
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return guess + gaussian.spread(away.detach(), level)

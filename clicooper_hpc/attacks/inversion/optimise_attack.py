"""Pictures of the owner's samples by optimisation: no other images, only the front's weights.

He, Zhang and Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019
(rMLE): the picture whose clean row fits the released one, among smooth pictures. With noise
the fit counts in units of its variance, which makes it the maximum a posteriori picture under a
total variation prior; that prior's weight is chosen on rows of the attacker's own images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.attacks.harness.adversary import (
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
)
from clicooper_hpc.attacks.harness.attack import (
    Attack,
    AttackOutcome,
    MetricKind,
)
from clicooper_hpc.attacks.inversion.reconstruction_scores import (
    Reconstruction,
    choose_reconstruction_inputs,
    reconstruction_squared_errors,
    score_reconstruction,
)
from clicooper_hpc.attacks.inversion.tensor_front import (
    SEARCHED_INPUTS,
    TensorFront,
    cannot_search,
    matched_sigma,
    tensor_front,
    tensor_front_rows,
)
from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = ["OPTIMISE", "optimise_pictures"]

_TUNING, _SHOWN = 8, 16
_STEPS, _TUNING_STEPS = 300, 150
# The misfit has several minima under a front with rectifiers; the better start is kept for each
# row.
_STARTS = 2
_LEARNING_RATE = 0.03
# Weights of the prior against a data term in units of its variance. Neighbouring pixels differ by
# about 0.03 to 0.1, which is a Laplace prior of weight 10 to 30; its neighbours cover other images.
_PRIORS = (1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is minimised: misfit over 2 ``sigma``^2 plus ``prior`` times total variation."""

    front: TensorFront
    sigma: float
    prior: float


def optimise_pictures(
    rows: NDArray[np.float32],
    front: TensorFront,
    mean_image: NDArray[np.float32],
    *,
    sigma: float,
    prior: float,
    steps: int,
    seed: int,
) -> NDArray[np.float32]:
    """Return the best picture of several starts for each row.

    Parameters
    ----------
    rows
        float32 [n, ...].
    front
        With the clip.
    mean_image
        float32 [channels, height, width]: the first start; the others are it plus noise.
    sigma
        What rows are matched to, above 0.
    prior
        Weight of the total variation, per difference of neighbouring pixels.
    steps
        Of Adam, per start.
    seed
        Of the starts.

    Returns
    -------
    NDArray[np.float32]
        [n, channels, height, width] in [0, 1].
    """
    device = attack_device()
    problem = _Problem(front, sigma, prior)
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.from_numpy(rows).to(device)
    mean = torch.from_numpy(mean_image).expand(len(rows), *mean_image.shape)
    best = mean.clone().to(device)
    lowest = torch.full((len(rows),), torch.inf, device=device)
    for start in range(_STARTS):
        # The first start is the mean image, the best guess without a row.
        spread = 0.25 * torch.randn(mean.shape, generator=generator) if start else 0.0
        pictures, costs = _optimise_start(problem, wanted, (mean + spread).to(device), steps)
        better = costs < lowest
        best[better], lowest[better] = pictures[better], costs[better]
    result: NDArray[np.float32] = best.cpu().numpy()
    return result


def _optimise_start(
    problem: _Problem, wanted: Tensor, start: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Return pictures and their costs [n] after Adam with a cosine learning rate."""
    pictures = start.clamp(0.0, 1.0).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([pictures], lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad(set_to_none=True)
        _optimise_costs(problem, pictures, wanted).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            # Projected after each step: an image outside [0, 1] fits rows that no image has.
            pictures.clamp_(0.0, 1.0)
    with torch.no_grad():
        return pictures.detach(), _optimise_costs(problem, pictures, wanted)


def _optimise_costs(problem: _Problem, pictures: Tensor, wanted: Tensor) -> Tensor:
    misfit = (problem.front(pictures) - wanted).flatten(1).square().sum(dim=1)
    across = pictures.diff(dim=3).abs().flatten(1).sum(dim=1)
    down = pictures.diff(dim=2).abs().flatten(1).sum(dim=1)
    return misfit / (2 * problem.sigma**2) + problem.prior * (across + down)


def _optimise_reconstruction(
    view: AdversaryView, aux: AuxiliaryData, seed: int, scale: float
) -> Reconstruction:
    """Make pictures of at most 32 inputs; eight images of its own choose the prior's weight."""
    front = tensor_front(view)
    random = np.random.default_rng(seed)
    inputs = choose_reconstruction_inputs(view, SEARCHED_INPUTS, seed)
    mean = aux.same.images.mean(axis=0, dtype=np.float64).astype(np.float32)
    own = aux.same.images[random.permutation(len(aux.same))[:_TUNING]]
    clean = tensor_front_rows(front, own, view)
    # Its own rows are noised as the owner's are: the prior is chosen for rows like those.
    noise = random.standard_normal(clean.shape) * view.mechanism.sigma
    sigma = matched_sigma(view, clean)
    errors = {}
    for prior in _PRIORS:
        tried = optimise_pictures(
            (clean + noise).astype(np.float32),
            front,
            mean,
            sigma=sigma,
            prior=prior,
            steps=max(2, round(scale * _TUNING_STEPS)),
            seed=seed,
        )
        errors[prior] = float(reconstruction_squared_errors(own, tried).mean())
    # By the error of pictures of its own images, whose originals it knows.
    prior = min(errors, key=errors.__getitem__)
    pictures = optimise_pictures(
        view.rows[inputs],
        front,
        mean,
        sigma=sigma,
        prior=prior,
        steps=max(2, round(scale * _STEPS)),
        seed=seed,
    )
    others = aux.same.images[random.integers(0, len(aux.same), len(inputs))]
    note = f"prior weight {prior:g} of {len(_PRIORS)}, {_STARTS} starts, {len(own)} images to tune"
    noisy = view.mechanism.sigma > 0
    variant = "rMLE, noise-weighted" if noisy else "rMLE"
    # Without noise the paper's attack and the honest one are the same.
    kinds: tuple[MetricKind, ...] = ("honest",) if noisy else ("paper", "honest")
    return Reconstruction(inputs, pictures, mean, others, variant, note, kinds)


def _run_optimise(
    view: AdversaryView, aux: AuxiliaryData, truth: GroundTruth, seed: int, scale: float
) -> AttackOutcome:
    made = _optimise_reconstruction(view, aux, seed, scale)
    results = score_reconstruction(made, view, truth, attack=OPTIMISE.name, seed=seed)
    arrays = {
        "originals": truth.train.images[view.groups[made.inputs[:_SHOWN], 0]],
        "mean image": made.mean_image[None],
        "rMLE": made.pictures[:_SHOWN],
    }
    return AttackOutcome(results, arrays)


OPTIMISE: Final = Attack(
    name="optimise",
    knowledge="public front with its weights, mechanism, eight images of the same distribution",
    source="He et al., ACSAC 2019",
    applies=cannot_search,
    run=_run_optimise,
)

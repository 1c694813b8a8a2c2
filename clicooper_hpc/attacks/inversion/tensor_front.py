"""The public front as a search for pictures follows it: with gradients and the clip, no noise."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.attacks.harness.adversary import AdversaryView
from clicooper_hpc.attacks.harness.public_mechanism import differentiable_public_clip
from clicooper_hpc.attacks.inversion.reconstruction_scores import cannot_reconstruct
from clicooper_hpc.attacks.toolbox.attack_device import attack_device

__all__ = [
    "SEARCHED_INPUTS",
    "TensorFront",
    "cannot_search",
    "matched_sigma",
    "tensor_front",
    "tensor_front_rows",
]

#: Rows float32 [n, ...] of images float32 [n, channels, height, width], with gradients.
TensorFront = Callable[[Tensor], Tensor]

#: Inputs that attacks are asked for which search for each picture by itself.
SEARCHED_INPUTS = 32
# Without noise rows are matched to this part of their standard deviation.
_RELATIVE_FLOOR = 0.02


def cannot_search(view: AdversaryView) -> str | None:
    """Say why no picture can be searched for through the front; None if it can."""
    if view.front_module is None:
        return "the front is secret or has no gradients"
    return cannot_reconstruct(view)


def tensor_front(view: AdversaryView) -> TensorFront:
    """Return the differentiable front with the clip, its weights constants.

    Raises
    ------
    ValueError
        The view has none; see `cannot_search`.
    """
    if view.front_module is None:
        raise ValueError("a search for pictures needs a front with gradients")
    front = copy.deepcopy(view.front_module).eval().requires_grad_(False).to(attack_device())
    return lambda images: differentiable_public_clip(front(images), view.mechanism)


def tensor_front_rows(
    front: TensorFront, images: NDArray[np.float32], view: AdversaryView
) -> NDArray[np.float32]:
    """Return clean rows of ``images`` float32 [n, ...], of the shape of the view's rows."""
    with torch.no_grad():
        rows = front(torch.from_numpy(images).to(attack_device())).cpu().numpy()
    shaped: NDArray[np.float32] = rows.reshape(len(images), *view.rows.shape[1:])
    return shaped


def matched_sigma(view: AdversaryView, clean: NDArray[np.float32]) -> float:
    """Return what rows are matched to: the noise, or without noise a small part of their spread.

    ``clean`` are rows of the attacker's own images.
    """
    # Without noise a misfit in units of its variance would be infinite.
    return view.mechanism.sigma or max(_RELATIVE_FLOOR * float(clean.std()), 1e-6)

"""What every party knows of the release: its mechanism, and the front unless that is private."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.attacks.harness.adversary import PublicMechanism
from clicooper_hpc.config.job import Job
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import restore_operation
from clicooper_hpc.privacy.clipping import clip_to_grid
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "DifferentiableFront",
    "differentiable_public_clip",
    "public_clip",
    "public_front",
    "public_mechanism",
]

_Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def public_mechanism(job: Job, front: Front, spec: ReleaseSpec | None) -> PublicMechanism:
    """Return the mechanism as the privacy card states it; ``spec`` is None with privacy off."""
    if spec is None:
        return PublicMechanism(
            unit=job.privacy.unit,
            relation=job.privacy.relation,
            clip=job.privacy.clip,
            sigma=0.0,
            radius=float("inf"),
            mu=float("inf"),
            non_negative=front.non_negative,
        )
    promise = spec.guarantee
    # The element unit bounds each number, so a whole row may be sqrt(d) times as long.
    wide = promise.unit == "element"
    return PublicMechanism(
        unit=promise.unit,
        relation=promise.relation,
        clip=promise.clip,
        sigma=spec.sigma,
        radius=promise.clip * (float(np.sqrt(promise.dimension)) if wide else 1.0),
        mu=spec.sample_mu,
        non_negative=promise.non_negative,
        spec=spec,
    )


@dataclass(frozen=True, slots=True)
class _PublicFront:
    """The front as attackers call it: images in, clean rows out."""

    front: Front

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        shaped = images.reshape(len(images), *self.front.input_shape)
        return self.front.apply(np.ascontiguousarray(shaped, dtype=np.float32))


class DifferentiableFront(nn.Module):
    """The front with gradients: images float32 [n, ...] to clean rows float32 [n, ...].

    A copy of its own; its weights are constants. It computes on the CPU, wherever the images are.
    """

    def __init__(self, front: Front) -> None:
        super().__init__()
        self._shape = front.input_shape
        # A copy of its own: gradients and requires_grad must not reach the owner's front.
        self._operations = tuple(
            restore_operation(one.operation_settings(), one.operation_tensors())
            for one in front.operations
        )
        for operation in self._operations:
            names: list[str] = (
                [field.name for field in fields(operation)] if is_dataclass(operation) else []
            )
            for name in names:
                part = getattr(operation, name)
                if isinstance(part, nn.Module):
                    # The picture is optimised, never the front; gradients of weights would only
                    # cost memory.
                    part.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the clean rows of ``images``."""
        # The operations of fronts are defined bit by bit on the CPU.
        rows = images.cpu().reshape(len(images), *self._shape)
        for operation in self._operations:
            rows = operation.apply(rows)
        return rows.to(images.device)


def public_front(front: Front) -> _Map | None:
    """Return the front unless its training was private.

    Every public kind can be built again from the job, which all ranks hold (the seed of random
    features included), and from public files; so an attacker must be granted it. A projection by
    noised class sums is secret, but whoever has labelled images of the owner's distribution finds
    nearly the same directions, and its guarantee would allow publishing it: granted too.
    """
    origin = front.origin
    # Granted although secret when bought with noised class sums: see above.
    return None if origin.is_private and origin.class_sums is None else _PublicFront(front)


def public_clip(spec: ReleaseSpec | None) -> _Map:
    """Return what takes clean rows to those that noise is added to: clipped, cut to the grid."""
    if spec is None:
        return lambda rows: rows.astype(np.float32, copy=False)

    def clip(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        # Cut to the grid as well, so that without noise clean and released rows agree to the bit.
        whole = clip_to_grid(rows.reshape(len(rows), -1), spec)
        return (whole * spec.grid).astype(np.float32).reshape(rows.shape)

    return clip


def differentiable_public_clip(rows: Tensor, mechanism: PublicMechanism) -> Tensor:
    """Return what noise was added to, with gradients; rows float32 [n, ...] as they are if none.

    The element unit bounds each number, the others the L2 norm of a row
    (`clicooper_hpc.privacy.clipping.clip_rows` without its cut to the grid).
    """
    if not np.isfinite(mechanism.radius):
        return rows
    lowest = 0.0 if mechanism.non_negative else -mechanism.clip
    if mechanism.unit == "element":
        return rows.clamp(lowest, mechanism.clip)
    if mechanism.non_negative:
        rows = rows.clamp_min(0.0)
    # Not below 1e-12: the gradient of a norm at the zero row is undefined.
    norms = rows.flatten(1).norm(dim=1).clamp_min(1e-12)
    factor = (mechanism.clip / norms).clamp_max(1.0)
    clipped: Tensor = rows * factor.reshape(-1, *(1,) * (rows.ndim - 1))
    return clipped

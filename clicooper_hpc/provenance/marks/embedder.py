"""Embedding of a mark: the nearest weights whose every margin is at least tau.

With v_j the values of bit j (weights over the size of their output channel), e_j its signs and r
their number, the statistic of the bit is ``z_j = e_j . v_j / |v_j|``. Splitting v_j into its part p
along the unit vector ``e_j / sqrt(r)`` and the rest q, ``z_j >= tau`` is
``p >= tau * |q| / sqrt(r - tau**2)``: where p falls short, every value of the bit moves by the same
amount along its sign. Bits share no weight and no carrier enters a channel's size, so one pass is
exact. No loss term, no gradient, nothing to tune.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clicooper_hpc.provenance.marks.carriers import Carriers
from clicooper_hpc.provenance.marks.columns import place_in_columns
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan

__all__ = ["Embedder"]

# Kept above tau so that rounding a weight to its type does not end just below it.
_HEADROOM = 2.0**-10
_COARSE_HEADROOM = 2.0**-6
_COARSE_PASSES = 4
# Keeps the direction of bits whose carriers are all zero, as a fraction of the channel's size.
_LEAST_REST = 2.0**-10


@dataclass(frozen=True, slots=True)
class _Part:
    """The carriers in one tensor: ``weight`` int64 [k], elements in C order."""

    tensor: Tensor
    weight: Tensor


class Embedder:
    """Puts one mark into the live parameters of a segment, as often as asked.

    Parameters
    ----------
    parameters
        Tensors by name, on one device; those named in ``plan.eligible`` are changed in place.
    plan, carriers
        The mark.

    Raises
    ------
    ValueError
        The parameters are not those the carriers were drawn for.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], plan: MarkPlan, carriers: Carriers
    ) -> None:
        shapes = dict(zip(plan.eligible, carriers.shapes, strict=True))
        for name, shape in shapes.items():
            if name not in parameters or tuple(parameters[name].shape) != shape:
                raise ValueError(f"the carriers were drawn for a tensor {name!r} of shape {shape}")
        device = parameters[plan.eligible[0]].device
        placements = place_in_columns(plan.eligible, shapes, carriers.index)
        self._parts = [
            # The same storage, outside autograd: embedding is no part of the gradient.
            _Part(parameters[one.name].detach(), torch.from_numpy(one.weight).to(device))
            for one in placements
        ]
        # Carriers are gathered tensor by tensor, in order of memory; these lead from there to the
        # order [bits, r] and back.
        back = np.concatenate([one.carrier for one in placements])
        channels = np.cumsum([0, *(shapes[one.name][0] for one in placements)])
        channel = np.concatenate(
            [one.channel + first for one, first in zip(placements, channels, strict=False)]
        )
        there = np.argsort(back)
        self._back = torch.from_numpy(back).to(device)
        self._there = torch.from_numpy(there).to(device)
        self._channel = torch.from_numpy(channel[there]).to(device)
        fine = {part.tensor.dtype for part in self._parts} <= {torch.float32, torch.float64}
        self._passes = 1 if fine else _COARSE_PASSES
        self._tau = plan.tau * (1 + (_HEADROOM if fine else _COARSE_HEADROOM))
        self._sign = torch.from_numpy(carriers.sign).to(device, torch.float64)

    @torch.no_grad()
    def embed(self) -> None:
        """Raise every margin that is below tau to tau, in place.

        Deterministic, and without a word from the device to the host. A bit stays short only when
        so many of its channels are zero that fewer than tau**2 carriers are left, or when weights
        are not finite.
        """
        for _ in range(self._passes):
            self._pass()

    def _pass(self) -> None:
        # Copies where the memory format is not the default; written back below.
        flats = [part.tensor.reshape(-1) for part in self._parts]
        held = [
            flat.index_select(0, part.weight).double()
            for part, flat in zip(self._parts, flats, strict=True)
        ]
        shape = self._sign.shape
        values = torch.cat(held).index_select(0, self._there).view(shape)
        channels = torch.cat([_channel_sizes(part.tensor) for part in self._parts])
        # Like the reader: what is not finite counts as zero.
        sizes = channels.index_select(0, self._channel).view(shape)
        sizes = sizes.nan_to_num(nan=0.0, posinf=0.0)
        alive = sizes > 0
        values = torch.where(alive, values / sizes, 0.0).nan_to_num(0.0, 0.0, 0.0)
        count = alive.sum(1).double().clamp(min=1.0)
        along = (self._sign * values).sum(1) / count.sqrt()
        rest = ((values**2).sum(1) - along**2).clamp(min=0.0).sqrt()
        rest = torch.maximum(rest, _LEAST_REST * count.sqrt())
        wanted = self._tau * rest / (count - self._tau**2).clamp(min=1.0).sqrt()
        gap = (wanted - along).clamp(min=0.0) / count.sqrt()
        moved = (gap[:, None] * self._sign * sizes).view(-1).index_select(0, self._back)
        lengths = [len(part.weight) for part in self._parts]
        for part, flat, old, move in zip(
            self._parts, flats, held, torch.split(moved, lengths), strict=True
        ):
            flat.index_copy_(0, part.weight, (old + move).to(flat.dtype))
            if flat.data_ptr() != part.tensor.data_ptr():
                part.tensor.copy_(flat.view(part.tensor.shape))


def _channel_sizes(tensor: Tensor) -> Tensor:
    """`columns.odd_column_sizes` on the tensor's device: float64 [channels]."""
    clean = tensor[:, 1::2]
    axes = tuple(range(1, clean.ndim))
    norms: Tensor = torch.linalg.vector_norm(clean, dim=axes, dtype=torch.float64)
    return norms.mul((clean.numel() // clean.shape[0]) ** -0.5)

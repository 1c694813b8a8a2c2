"""Noised moments and sums of gradients, as the owner keeps them until rows are made of them.

Each is stored before the next is asked for: what goes on in the same private folder continues
behind them, and nothing is noised twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.moments import Moments
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors

__all__ = ["NoisedRounds", "read_noised_moments", "write_noised_moments"]

_MOMENTS = ("sums", "second", "sizes")


@dataclass(frozen=True, slots=True, eq=False)
class NoisedRounds:
    """Rounds of gradients so far.

    Attributes
    ----------
    start
        Model of the first round.
    step
        Step size.
    sums
        Noised sums of gradients, float64 [p + 1, K] each, round by round.
    """

    start: MomentModel
    step: float
    sums: tuple[NDArray[np.float64], ...] = ()

    def to_private_bytes(self) -> bytes:
        """Return the rounds for ``private/``: a restart goes on with the same bits anywhere."""
        width, classes = self.start.matrix.shape
        sums = np.array(self.sums, dtype=np.float64).reshape(-1, width + 1, classes)
        tensors = {
            "start.matrix": torch.from_numpy(self.start.matrix),
            "start.bias": torch.from_numpy(self.start.bias),
            "step": torch.tensor(self.step, dtype=torch.float64),
            "sums": torch.from_numpy(sums),
        }
        return pack_safetensors(tensors, {})

    @classmethod
    def from_private_bytes(cls, stored: bytes, *, where: str) -> NoisedRounds:
        """Read `to_private_bytes`.

        Raises
        ------
        RunFolderError
            These are no such bytes.
        ValueError
            A tensor is missing, or has another type or shape.
        """
        names = ("start.matrix", "start.bias", "step", "sums")
        tensors = _read(stored, names, where)
        matrix, bias, step, sums = (tensors[name] for name in names)
        fit = (
            matrix.ndim == 2
            and bias.shape == matrix.shape[1:]
            and step.shape == ()
            and sums.ndim == 3
            and sums.shape[1:] == (matrix.shape[0] + 1, matrix.shape[1])
        )
        if not fit:
            raise ValueError("its tensors do not fit together")
        return cls(MomentModel(matrix, bias), float(step), tuple(sums))


def write_noised_moments(moments: Moments) -> bytes:
    """Return moments for ``private/``."""
    tensors = {name: torch.from_numpy(getattr(moments, name)) for name in _MOMENTS}
    numbers = torch.tensor([float(moments.samples), moments.sigma], dtype=torch.float64)
    return pack_safetensors({**tensors, "samples, sigma": numbers}, {})


def read_noised_moments(stored: bytes, *, where: str) -> Moments:
    """Read `write_noised_moments`.

    Raises
    ------
    RunFolderError
        These are no such bytes.
    ValueError
        A tensor is missing, or has another type or shape.
    """
    tensors = _read(stored, (*_MOMENTS, "samples, sigma"), where)
    sums, second, sizes = (tensors[name] for name in _MOMENTS)
    numbers = tensors["samples, sigma"]
    fit = (
        sums.ndim == 2
        and second.shape == (sums.shape[1], sums.shape[1])
        and sizes.shape == sums.shape[:1]
        and numbers.shape == (2,)
    )
    if not fit or not numbers[0].is_integer() or not 1 <= numbers[0] < 2**53 or numbers[1] < 0:
        raise ValueError("its tensors do not fit together")
    return Moments(sums, second, sizes, int(numbers[0]), float(numbers[1]))


def _read(stored: bytes, names: tuple[str, ...], where: str) -> Mapping[str, NDArray[np.float64]]:
    tensors: dict[str, Tensor] = unpack_safetensors(stored, where=where)
    if set(tensors) != set(names):
        raise ValueError(f"it holds {', '.join(sorted(tensors))}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float64 or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is no float64 of finite numbers")
    return {name: tensor.numpy() for name, tensor in tensors.items()}

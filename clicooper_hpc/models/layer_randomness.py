"""Random numbers of a layer, keyed so that they do not depend on where the network is cut."""

from __future__ import annotations

import hashlib
import struct

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from clicooper_hpc.models.image_input import ImageInput

__all__ = ["has_layer_randomness", "layer_random_seed", "seed_layer_randomness"]

# RReLU and fractional pooling draw too, though they are no dropout.
_RANDOM_TYPES = (_DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
_KNOWN_PACKAGES = ("torch.nn.", "clicooper_hpc.models.")


def layer_random_seed(seed: int, step: int, micro_batch: int, layer: int) -> int:
    """Hash the four numbers (each in [0, 2**64)) to a generator seed in [0, 2**63).

    ``layer`` counts in the whole network, not in the segment. BLAKE2b-64 over the numbers as
    little-endian 64-bit words, the top bit dropped.
    """
    try:
        words = struct.pack("<4Q", seed, step, micro_batch, layer)
    except struct.error as error:
        raise ValueError(
            f"({seed}, {step}, {micro_batch}, {layer}) must be whole numbers in [0, 2**64)"
        ) from error
    value = hashlib.blake2b(words, digest_size=8, person=b"clicooper-layer").digest()
    # torch takes seeds as signed 64-bit numbers.
    return int.from_bytes(value, "little") >> 1


def seed_layer_randomness(
    seed: int, step: int, micro_batch: int, layer: int, device: torch.device | str
) -> None:
    """Seed the default generator of the CPU, and of ``device`` if that is a GPU.

    Called right before ``layer`` runs forward in training, so that its dropout masks are the same
    in every division of the network into segments.
    """
    value = layer_random_seed(seed, step, micro_batch, layer)
    # Not torch.manual_seed: that would reseed every GPU of the machine.
    torch.default_generator.manual_seed(value)
    place = torch.device(device)
    if place.type == "cuda":
        with torch.cuda.device(place):
            torch.cuda.manual_seed(value)


def has_layer_randomness(layer: nn.Module) -> bool:
    """Tell whether ``layer`` may draw random numbers when it trains.

    True for anything that contains a dropout-like module, and for any module type that comes
    neither from ``torch.nn`` nor from this package: what it does cannot be known, and a seed too
    many costs little.
    """
    return any(_may_draw(module) for module in layer.modules())


def _may_draw(module: nn.Module) -> bool:
    if isinstance(module, _RANDOM_TYPES):
        return True
    if isinstance(module, ImageInput):
        return module.draws
    if not type(module).__module__.startswith(_KNOWN_PACKAGES):
        return True
    # Attention and recurrent layers of torch.nn keep their dropout as a number.
    inner = getattr(module, "dropout", 0.0)
    return isinstance(inner, int | float) and inner > 0

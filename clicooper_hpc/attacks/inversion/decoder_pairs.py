"""Images an attacker trains decoders on, and their clean rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData
from clicooper_hpc.attacks.inversion.decoder_training import DecoderPairs

__all__ = ["decoder_images", "decoder_pairs"]

# The attacker's clean rows held in memory: 2^27 numbers are 512 MiB.
_NUMBERS = 2**27
_IMAGES = 20_000
# Validation chooses the best epoch and the shrinkage; more would be missing from training.
_HELD = 512
_BLOCK = 1024


def decoder_images(
    aux: AuxiliaryData, view: AdversaryView, seed: int
) -> list[tuple[str, NDArray[np.float32], int]]:
    """Return name, images float32 [n, ...] and how many at their front are of that distribution."""
    limit = max(64, min(_IMAGES, _NUMBERS // max(1, int(np.prod(view.rows.shape[1:])))))
    random = np.random.default_rng(seed)
    own = aux.same.images[random.permutation(len(aux.same))[:limit]]
    if aux.public is None:
        return [("same", own, len(own))]
    other = aux.public.images[random.permutation(len(aux.public))[:limit]]
    # Own images first: the front of the list is what validation and the mean image are taken from.
    both = np.concatenate([own, other[: limit - len(own)]])
    return [("same and public", both, len(own)), ("public", other, len(other))]


def decoder_pairs(view: AdversaryView, images: NDArray[np.float32], own: int) -> DecoderPairs:
    """Return clean rows of ``images``.

    The first ``own`` are of the distribution asked for: their mean is the mean image, and some of
    them are for validation.
    """
    if view.front is None:
        raise ValueError("a decoder needs the front")
    shape = view.rows.shape[1:]
    rows = np.empty((len(images), *shape), dtype=np.float32)
    for start in range(0, len(images), _BLOCK):
        part = images[start : start + _BLOCK]
        rows[start : start + len(part)] = view.clip(view.front(part)).reshape(len(part), *shape)
    # At most a quarter of the images of the named distribution, or few of them would be left to
    # learn from.
    held = max(1, min(_HELD, len(images) // 10, own // 4))
    mean = images[:own].mean(axis=0, dtype=np.float64).astype(np.float32)
    return DecoderPairs(rows, images, held, mean)

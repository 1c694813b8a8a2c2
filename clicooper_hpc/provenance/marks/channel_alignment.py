"""Alignment of channels before a mark is read: permuted, rescaled and flipped ones are put back.

Each output channel of the reference gets the suspect's channel whose odd input columns point most
alike: the assignment of greatest total absolute cosine (Crouse 2016, in SciPy; weight matching of
Ainsworth et al. 2023, "Git Re-Basin"). Its sign is kept, because folding a negative normalisation
weight flips a channel. The columns of a layer follow an order that another layer's channels were
found to have, or none. The layer that fits best under what is known so far is settled first, so
nothing need be known of how layers are connected: plain and residual networks both work.

Even columns, which hold the carriers, decide nothing: an innocent suspect gains nothing from the
search. Where this must hold exactly, take the segment as it was before the marked stage as the
reference: the seed of the mark was derived from its digest, so signs are independent of it.

Give all segments of a network at once if the suspect is a whole network: columns that no channels
given here lead to are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clicooper_hpc.provenance.marks.mark_plan import may_carry_mark
from clicooper_hpc.provenance.marks.pairing import pair_tensors

__all__ = ["align_channels"]

Floats = NDArray[np.floating[Any]]

# Cosine above which a spare channel is a copy of one in use.
_COPY = 0.999


@dataclass(frozen=True, slots=True)
class _Channels:
    """Which channels of the suspect stand for which of the reference, and how much larger.

    ``reference``, ``suspect`` int64 [m], ``factor`` float64 [m]; the first ``primary`` entries name
    each channel once, the others are copies. ``sizes``: number of channels of both.
    """

    reference: NDArray[np.int64]
    suspect: NDArray[np.int64]
    factor: NDArray[np.float64]
    primary: int
    sizes: tuple[int, int]


def align_channels(
    suspect: Mapping[str, Floats], reference: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Bring the weights of a suspect into the order, scale and sign of the reference.

    Parameters
    ----------
    suspect
        Arrays by name. Tensors may be renamed, missing or added (folded normalisation), channels
        permuted, scaled, flipped, removed, added or copied.
    reference
        The marked segment, or the segment before it was marked.

    Returns
    -------
    dict
        float64 arrays with names and shapes of the reference's matrices and kernels, for
        `reading.read_mark`; zero where the suspect has nothing. Not a working network.
    """
    pairs = pair_tensors(suspect, reference)
    aligned: dict[str, Floats] = {
        name: np.zeros(reference[name].shape, dtype=np.float64) for name in pairs
    }
    open_layers = {
        name: _Layer(name, np.asarray(suspect[other]), np.asarray(reference[name]))
        for name, other in pairs.items()
        if other is not None
    }
    for layer in open_layers.values():
        layer.offer_as_is()
    while open_layers:
        # Surest first: a wrong order of one layer spoils every layer behind it.
        name = max(open_layers, key=lambda name: open_layers[name].score)
        layer = open_layers.pop(name)
        if layer.ordered is None:
            continue
        channels = layer.assign(layer.ordered)
        aligned[name] = _aligned_rows(layer.ordered, channels, layer.marked)
        channels = _channels_with_copies(layer.ordered, channels)
        # Whose columns these channels are is not known: every open layer tries them.
        for other_layer in open_layers.values():
            other_layer.offer(channels)
    return aligned


class _Layer:
    """A pair of tensors, and the best order of the suspect's columns so far.

    ``score`` is the mean over channels of the best absolute cosine, less what the best of as many
    random directions would reach; 1 is perfect, 0 is chance.
    """

    def __init__(self, name: str, held: Floats, marked: Floats) -> None:
        self.held = np.nan_to_num(held.astype(np.float64), posinf=0.0, neginf=0.0)
        self.marked = marked.astype(np.float64)
        # Tensors without carriers can be compared as a whole.
        self._odd = may_carry_mark(name, marked.shape)
        self._wanted, self._norms = _channel_directions(self._clean(self.marked))
        dimensions = max(self._wanted.shape[1], 1)
        # Many channels find a close one by chance: else wide layers would always seem surer.
        self._chance = min(math.sqrt(2 * math.log(max(len(held), 2)) / dimensions), 0.99)
        self.score = -math.inf
        self.ordered: Floats | None = None

    def offer_as_is(self) -> None:
        """Consider the suspect's columns in the order they have."""
        if self.held.shape[1] == self.marked.shape[1]:
            self._consider(self.held)

    def offer(self, channels: _Channels) -> None:
        """Consider that the columns are these channels."""
        before, after = channels.sizes
        block, rest = divmod(self.marked.shape[1], before)
        # A matrix behind a flattened map has a block of columns for each channel.
        fits = block == 1 or self.held.ndim == 2
        if not block or rest or not fits or self.held.shape[1] != block * after:
            return
        kernel = self.held.shape[2:]
        blocks = self.held.reshape(len(self.held), after, block, *kernel)
        # Normalised channels hand no scale on; scaled activations need the inverse; odd
        # activation functions hand on the sign.
        for factor in (np.ones_like(channels.factor), channels.factor, np.sign(channels.factor)):
            ordered = np.zeros((len(blocks), before, block, *kernel))
            scaled = blocks[:, channels.suspect] * factor.reshape(-1, *[1] * (1 + len(kernel)))
            ordered[:, channels.reference[: channels.primary]] = scaled[:, : channels.primary]
            for entry in range(channels.primary, len(factor)):
                ordered[:, channels.reference[entry]] += scaled[:, entry]
            self._consider(ordered.reshape(len(ordered), before * block, *kernel))

    def assign(self, ordered: Floats) -> _Channels:
        """Assign channels one to one."""
        directions, norms = _channel_directions(self._clean(ordered))
        cosine = self._wanted @ directions.T
        # One to one: a greedy choice would give one channel of the suspect to several.
        rows, partners = linear_sum_assignment(np.abs(cosine), maximize=True)
        size = norms[partners] / np.where(self._norms[rows] > 0, self._norms[rows], 1.0)
        # Folding a negative normalisation weight flips a channel.
        factor = np.where(cosine[rows, partners] < 0, -size, size)
        return _Channels(rows, partners, factor, len(rows), (len(self.marked), len(ordered)))

    def _consider(self, ordered: Floats) -> None:
        directions, _ = _channel_directions(self._clean(ordered))
        cosine = np.abs(self._wanted @ directions.T)
        mean = float(cosine.max(axis=1, initial=0.0).mean())
        score = (mean - self._chance) / (1 - self._chance)
        if score > self.score:
            self.score, self.ordered = score, ordered

    def _clean(self, tensor: Floats) -> Floats:
        # Carriers lie in even columns: the search must not see what the reading will look at.
        return tensor[:, 1::2] if self._odd else tensor


def _aligned_rows(ordered: Floats, channels: _Channels, marked: Floats) -> Floats:
    """Return the rows of ``ordered`` in the reference's order, scale and sign."""
    # A dead channel has no scale to undo; it reads as zero.
    inverse = np.where(channels.factor != 0, channels.factor, math.inf) ** -1.0
    rows = np.zeros_like(marked)
    rows[channels.reference] = ordered[channels.suspect] * inverse.reshape(
        -1, *[1] * (marked.ndim - 1)
    )
    return rows


def _channels_with_copies(ordered: Floats, channels: _Channels) -> _Channels:
    """Add the suspect's spare channels that are copies of channels in use."""
    spare = np.setdiff1d(np.arange(channels.sizes[1]), channels.suspect)
    if not spare.size:
        return channels
    directions, norms = _channel_directions(ordered)
    cosine = directions[spare] @ directions[channels.suspect].T
    twin = np.argmax(np.abs(cosine), axis=1)
    best = cosine[np.arange(spare.size), twin]
    # Copying a channel and halving what reads it leaves the function alone: sum it up again.
    copies = np.flatnonzero(np.abs(best) > _COPY)
    twin, best, spare = twin[copies], best[copies], spare[copies]
    ratio = np.sign(best) * norms[spare] / norms[channels.suspect[twin]]
    return _Channels(
        np.concatenate((channels.reference, channels.reference[twin])),
        np.concatenate((channels.suspect, spare)),
        np.concatenate((channels.factor, channels.factor[twin] * ratio)),
        channels.primary,
        channels.sizes,
    )


def _channel_directions(rows: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return unit rows float64 [n, all else], zero where a row is, and their lengths."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1)
    return flat / np.where(lengths > 0, lengths, 1.0)[:, None], lengths

"""What a party's own segments make of rows, and the sub-label scores at their end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.attacks.harness.adversary import AdversaryView

__all__ = [
    "count_classes",
    "enters_first_segment",
    "held_segment_chain",
    "segment_features",
    "segment_head_weights",
    "segment_logits",
]

# Rows at a time: features of a wide segment for all rows at once would not fit.
_BATCH = 256

Arrays = dict[str, NDArray[np.float32]]


def count_classes(classes: NDArray[np.int64]) -> int:
    """Return the number of classes K that labelled samples of the attacker show."""
    return int(classes.max()) + 1


def held_segment_chain(view: AdversaryView) -> tuple[int, ...]:
    """Return the held segments that rows can pass one after another, from the party's first."""
    chain: list[int] = []
    for number in sorted(view.segments):
        # What lies between two segments that are no neighbours is not held.
        if chain and number != chain[-1] + 1:
            break
        chain.append(number)
    return tuple(chain)


def enters_first_segment(view: AdversaryView) -> bool:
    """Whether the party can make inputs of its own: front public, first held segment the first."""
    return view.front is not None and held_segment_chain(view)[:1] in {(), (1,)}


def segment_features(
    segments: Mapping[int, nn.Module], chain: tuple[int, ...], rows: NDArray[np.float32]
) -> Arrays:
    """Return what each segment of the chain makes of rows [n, ...], by ``segment 1``, ...

    In evaluation mode, without gradients; the segments are not changed.
    """
    found: Arrays = {}
    values = rows
    for number in chain:
        segment = segments[number]
        device = next((p.device for p in segment.parameters()), torch.device("cpu"))
        parts = []
        with torch.no_grad():
            for start in range(0, len(values), _BATCH):
                given = torch.from_numpy(np.ascontiguousarray(values[start : start + _BATCH]))
                parts.append(segment(given.to(device)).float().cpu().numpy())
        if not parts:
            break
        values = np.concatenate(parts).astype(np.float32)
        found[f"segment {number}"] = values
    return found


def segment_logits(
    features: Mapping[str, NDArray[np.float32]], sub_labels: int
) -> NDArray[np.float32] | None:
    """Return the last features [n, gamma K] if they are sub-label scores, else None."""
    if not features:
        return None
    last = list(features.values())[-1]
    return last if last.ndim == 2 and last.shape[1] == sub_labels else None


def segment_head_weights(view: AdversaryView) -> NDArray[np.float32] | None:
    """Return weights and bias of the last linear layer, [gamma K, d + 1], if it scores sub-labels.

    The bias is the last column; zeros where the layer has none.
    """
    if not view.segments:
        return None
    modules = list(view.segments[max(view.segments)].modules())
    linear = [module for module in modules if isinstance(module, nn.Linear)]
    # A last layer of another width does not score sub-labels, so its rows are no names.
    if not linear or linear[-1].out_features != view.sub_label_count:
        return None
    weight = linear[-1].weight.detach().float().cpu().numpy()
    # A column in any case, so that heads with and without bias are grouped in one space.
    bias = np.zeros(len(weight), dtype=np.float32)
    if linear[-1].bias is not None:
        bias = linear[-1].bias.detach().float().cpu().numpy()
    return np.concatenate([weight, bias[:, None]], axis=1).astype(np.float32)

"""Tensor digests of the segments inside a packed model, as their trainers signed them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.safetensors_layout import StoredTensor, read_safetensors_layout
from clicooper_hpc.provenance.tensor_digest import digest_stored_tensors

__all__ = ["packed_segment_roots"]

#: How names of the network's tensors begin; its layers' numbers follow.
_NETWORK: Final = "network."
_LAYER: Final = re.compile(r"0|[1-9][0-9]{0,8}")


def packed_segment_roots(content: bytes, cuts: Sequence[int], *, where: str) -> list[str]:
    """Return the tensor digest (hex) of every segment, in order.

    Parameters
    ----------
    content
        The file ``model.safetensors``.
    cuts
        First layer of every segment; a segment counts its layers from there.

    Raises
    ------
    EvidenceError
        The file is damaged, or a tensor of the network belongs to no layer.
    """
    segments: list[dict[str, StoredTensor]] = [{} for _ in cuts]
    for name, tensor in read_safetensors_layout(content, where=where).items():
        if not name.startswith(_NETWORK):
            continue
        layer, point, rest = name.removeprefix(_NETWORK).partition(".")
        # One spelling: 01 would be layer 1 once more.
        if not (point and _LAYER.fullmatch(layer)):
            raise EvidenceError(f"the tensor {name!r} belongs to no layer", where=where)
        segment = bisect_right(cuts, int(layer)) - 1
        if segment < 0:
            raise EvidenceError(f"the tensor {name!r} belongs to no segment", where=where)
        segments[segment][f"{int(layer) - cuts[segment]}.{rest}"] = tensor
    return [digest_stored_tensors(one).hex for one in segments]

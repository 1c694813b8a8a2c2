"""The delivery of a trainer's segment: parsed, compared with the ordered network, stored."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from clicooper_hpc.errors import PeerError, RunFolderError
from clicooper_hpc.runstore.safetensors_files import save_safetensors, unpack_safetensors
from clicooper_hpc.transport.finite_payload import describe_non_finite

__all__ = ["accept_delivery", "delivery_file", "delivery_size_limit"]

#: A safetensors header names each tensor in well under this.
_HEADER_BYTES_PER_TENSOR = 512


def delivery_file(folder: Path, segment: int) -> Path:
    """Return where segment ``segment`` (from 1) is kept."""
    return folder / f"segment-{segment:03d}.safetensors"


def delivery_size_limit(layers: nn.Sequential) -> int:
    """Return the most bytes a delivered segment may have."""
    state = layers.state_dict()
    content = sum(int(value.numel() * value.element_size()) for value in state.values())
    return content + _HEADER_BYTES_PER_TENSOR * (len(state) + 1)


def accept_delivery(
    content: bytes, layers: nn.Sequential, segment: int, folder: Path, *, step: int
) -> None:
    """Load a segment as it is after ``step`` steps into ``layers`` and write it to ``folder``.

    Raises
    ------
    PeerError
        If it is not safetensors, or a tensor is missing, unasked for, of another shape or type,
        or not finite. Nothing is loaded or written then.
    """
    where = f"segment delivered by rank {segment} after step {step}"
    try:
        state = unpack_safetensors(content, where=where)
    except RunFolderError as error:
        raise PeerError(f"is not safetensors ({error.what})", where=where) from None
    wanted = layers.state_dict()
    # Compared with what was ordered before anything is loaded: the segment comes from outside.
    if state.keys() != wanted.keys():
        odd = sorted(state.keys() ^ wanted.keys())[0]
        raise PeerError(f"tensor {odd} is missing or was not ordered", where=where)
    for name, value in state.items():
        if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
            raise PeerError(
                f"tensor {name} is {value.dtype} {list(value.shape)}, ordered was "
                f"{wanted[name].dtype} {list(wanted[name].shape)}",
                where=where,
            )
        # One NaN would make every prediction NaN, and the evaluation would say so too late.
        content_problem = describe_non_finite(value)
        if content_problem is not None:
            raise PeerError(
                f"tensor {name} holds {content_problem}",
                where=where,
                remedy=f"Run one clicooper_hpc version on all ranks; else rank {segment} is at "
                "fault",
            )
    # Last, when nothing can be refused any more.
    layers.load_state_dict(state)
    folder.mkdir(exist_ok=True)
    save_safetensors(delivery_file(folder, segment), state, {"segment": str(segment)})

"""`StageClaim`: what trainers say of a stage, held against its signed proofs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.statements import Handoff
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.safetensors_files import unpack_safetensors
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.training.segment_state import TRAINING, WEIGHTS

__all__ = ["StageClaim", "claimed_messages", "claimed_root", "claimed_state"]


@dataclass(frozen=True, slots=True)
class StageClaim:
    """What the trainers say about a stage. Check it against the signed proofs first.

    Attributes
    ----------
    states
        State of each segment after the stage; names as in `clicooper_hpc.training.segment_state`.
    digests
        Digests (32 bytes) of the messages of each stream, in order of sending.
    """

    states: Sequence[Mapping[str, Tensor]]
    digests: Mapping[Stream, Sequence[bytes]]


def claimed_messages(
    tables: Mapping[int, Mapping[str, np.ndarray[Any, Any]]],
    handoffs: Sequence[Handoff],
    stage: int,
) -> dict[Stream, tuple[bytes, ...]]:
    """Return the digests of all messages of ``stage``, compared with its signed hand-offs.

    Parameters
    ----------
    tables
        Table ``messages`` of each trainer's rank, as columns (`runstore.tables.MESSAGES`).
    handoffs
        The hand-offs of the stage, boundaries 0 .. N - 1, as both ends signed them.

    Raises
    ------
    EvidenceError
        A rank's table is missing, or does not hold the messages that were signed.
    """
    found: dict[Stream, tuple[bytes, ...]] = {}
    for boundary, handoff in enumerate(handoffs):
        # Signed, but perhaps of another place.
        if (handoff.stage, handoff.boundary) != (stage, boundary):
            raise EvidenceError("is another one", where=f"hand-off {boundary} of stage {stage}")
        for stream, flow in (
            (Stream(boundary, "forward"), handoff.forward),
            (Stream(boundary, "backward"), handoff.backward),
        ):
            for rank, channel in _stream_ends(stream):
                if rank == 0:
                    continue  # the owner keeps no such table
                where = f"table messages of rank {rank}, stage {stage}"
                if rank not in tables:
                    raise EvidenceError("is missing", where=where)
                digests = _table_digests(tables[rank], stage, channel)
                if claimed_root(digests) != flow.root:
                    raise EvidenceError(
                        f"its messages of {stream} are not those that were signed",
                        where=where,
                        remedy="Bring back the file the run wrote.",
                    )
                # Both ends of a stream agree by now: their roots are one signed root.
                found[stream] = digests
    return found


def claimed_state(content: bytes, *, weights: str, training: str, where: str) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint file, compared with the roots (hex) that a proof states.

    Raises
    ------
    EvidenceError
        The file is damaged, holds anything else, or is not the state that was proved.
    """
    for prefix, wanted in ((WEIGHTS, weights), (TRAINING, training)):
        if digest_tensors(content, prefix=prefix, where=where).hex != wanted:
            raise EvidenceError(
                f"{prefix.rstrip('/')} are not those that were proved",
                where=where,
                remedy="Bring back the checkpoint the run wrote.",
            )
    state = unpack_safetensors(content, where=where)
    # A tensor no root covers could steer a replay without a signature.
    odd = sorted(name for name in state if not name.startswith((WEIGHTS, TRAINING)))
    if odd:
        raise EvidenceError(f"tensor {odd[0]} is not covered by any proof", where=where)
    return state


def claimed_root(digests: Sequence[bytes]) -> str:
    """Return the RFC 9162 root (hex) over message digests, as a hand-off states it of a stream."""
    return ChannelRecord(digests=list(digests)).root.hex()


def _stream_ends(stream: Stream) -> tuple[tuple[int, Channel], tuple[int, Channel]]:
    if stream.direction == "forward":
        return (stream.sender, "forward_out"), (stream.receiver, "forward_in")
    return (stream.sender, "backward_out"), (stream.receiver, "backward_in")


def _table_digests(
    table: Mapping[str, np.ndarray[Any, Any]], stage: int, channel: Channel
) -> tuple[bytes, ...]:
    chosen = (table["stage"] == stage) & (table["channel"] == channel.encode())
    return tuple(bytes.fromhex(bytes(digest).decode("ascii")) for digest in table["digest"][chosen])

"""`StageClaim`: what trainers say of a stage, as far as their signatures vouch for it.

Signed are roots: of every stream of messages by both its ends, of every state by its trainer. The
lists and files behind them are looked at only where a root is not the replay's, to say where it
departs; whoever spoils them hides that place, and neither the fact nor anybody else's work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from clicooper_hpc.audit.message_trace import MessageTrace, Stream
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.statements import Handoff
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.training.segment_state import TRAINING, WEIGHTS

__all__ = [
    "StageClaim",
    "claimed_messages",
    "claimed_root",
    "claimed_state",
    "is_claimed_state",
    "unlike_tables",
]

#: Table ``messages`` of each trainer's rank, as columns; ranks whose table cannot be read are out.
MessageTables = Mapping[int, Mapping[str, np.ndarray[Any, Any]]]

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class StageClaim:
    """What the trainers say about a stage, compared with the signed proofs before.

    Attributes
    ----------
    states
        State of each segment after the stage; names as in `clicooper_hpc.training.segment_state`.
        None: another one was signed than replayed, and the file with it is not there.
    digests
        Digests (32 bytes) of the messages of each stream, in order of sending. None: other messages
        were signed than replayed, and neither end has the list of them.
    """

    states: Sequence[Mapping[str, Tensor] | None]
    digests: Mapping[Stream, Sequence[bytes] | None]


def claimed_messages(
    tables: MessageTables, handoffs: Sequence[Handoff], stage: int, trace: MessageTrace
) -> dict[Stream, tuple[bytes, ...] | None]:
    """Return the digests of all messages of ``stage``, as its signed hand-offs vouch for them.

    Parameters
    ----------
    handoffs
        The hand-offs of the stage, boundaries 0 .. N - 1, as both ends signed them.
    trace
        The messages of the replay.

    Raises
    ------
    EvidenceError
        A hand-off is of another place.
    """
    found: dict[Stream, tuple[bytes, ...] | None] = {}
    for stream, root in _signed_roots(handoffs, stage):
        replayed = tuple(message.digest for message in trace.messages_of(stream))
        lists = (
            _table_digests(tables.get(rank), stage, channel)
            for rank, channel in _stream_ends(stream)
        )
        # The replay's own first: what was signed is equal to it, whatever a table says.
        agreed = (one for one in (replayed, *lists) if one is not None)
        found[stream] = next((one for one in agreed if claimed_root(one) == root), None)
    return found


def unlike_tables(tables: MessageTables, handoffs: Sequence[Handoff], stage: int) -> dict[int, str]:
    """Return the ranks whose table ``messages`` is not what its hand-offs say, and in what."""
    found: dict[int, str] = {}
    for stream, root in _signed_roots(handoffs, stage):
        for rank, channel in _stream_ends(stream):
            # The owner keeps no such table.
            if rank == 0 or rank in found:
                continue
            digests = _table_digests(tables.get(rank), stage, channel)
            if digests is None:
                found[rank] = "cannot be read"
            elif claimed_root(digests) != root:
                found[rank] = f"does not list the messages {stream} that were signed"
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


def is_claimed_state(state: Mapping[str, Tensor], *, weights: str, training: str) -> bool:
    """Whether ``state`` has the roots (hex) that a proof states."""
    content = pack_safetensors(state, {})
    return (
        digest_tensors(content, prefix=WEIGHTS).hex,
        digest_tensors(content, prefix=TRAINING).hex,
    ) == (weights, training)


def claimed_root(digests: Sequence[bytes]) -> str:
    """Return the RFC 9162 root (hex) over message digests, as a hand-off states it of a stream."""
    return ChannelRecord(digests=list(digests)).root.hex()


def _signed_roots(handoffs: Sequence[Handoff], stage: int) -> list[tuple[Stream, str]]:
    found = []
    for boundary, handoff in enumerate(handoffs):
        # Signed, but perhaps of another place.
        if (handoff.stage, handoff.boundary) != (stage, boundary):
            raise EvidenceError("is another one", where=f"hand-off {boundary} of stage {stage}")
        found.append((Stream(boundary, "forward"), handoff.forward.root))
        found.append((Stream(boundary, "backward"), handoff.backward.root))
    return found


def _stream_ends(stream: Stream) -> tuple[tuple[int, Channel], tuple[int, Channel]]:
    if stream.direction == "forward":
        return (stream.sender, "forward_out"), (stream.receiver, "forward_in")
    return (stream.sender, "backward_out"), (stream.receiver, "backward_in")


def _table_digests(
    table: Mapping[str, np.ndarray[Any, Any]] | None, stage: int, channel: Channel
) -> tuple[bytes, ...] | None:
    if table is None:
        return None
    chosen = (table["stage"] == stage) & (table["channel"] == channel.encode())
    try:
        found = tuple(
            bytes.fromhex(bytes(digest).decode("ascii")) for digest in table["digest"][chosen]
        )
    # A rank may write anything into its own rows.
    except ValueError:
        return None
    return found if all(len(one) == _DIGEST_BYTES for one in found) else None

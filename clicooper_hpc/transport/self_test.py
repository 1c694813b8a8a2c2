"""Self test of the transport: do messages get through, and how fast, by the code training uses."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import MAX_TAG, World

__all__ = ["HopTime", "SelfTest", "run_self_test"]

# A tag nothing else opens.
_TAG = MAX_TAG
# The first messages make connections and map memory; only later ones tell the network's time.
_WARM_UP = 3
_RESULT = struct.Struct("<d")


@dataclass(frozen=True, slots=True)
class HopTime:
    """One-way time of a message between two neighbours, half of the fastest round trip."""

    source: int
    target: int
    payload_bytes: int
    microseconds: float


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Result of `run_self_test`.

    ``ring_microseconds`` is the time of one message once around all ranks; ``hops`` is filled on
    rank 0 and empty elsewhere.
    """

    ring_microseconds: float
    hops: tuple[HopTime, ...]


def _expect_payload(tensor: torch.Tensor, value: int, peer: int) -> None:
    if not bool((tensor == value).all()):
        raise PeerError(
            "the payload of a test message changed on its way",
            where=f"message from rank {peer} (forward)",
            remedy="Check the MPI library and the network, or choose another transport of the "
            "library",
        )


def _ring_test(world: World, payload_bytes: int, deadline_s: float) -> float:
    """Send a message once around all ranks; return the microseconds it took rank 0's."""
    before, after = (world.rank - 1) % world.size, (world.rank + 1) % world.size
    receiver = world.open_receiver(
        "forward",
        before,
        capacity_bytes=payload_bytes,
        slots=1,
        deadline_s=deadline_s,
        tag=_TAG,
    )
    sender = world.open_sender(
        "forward", after, capacity_bytes=payload_bytes, slots=1, deadline_s=deadline_s, tag=_TAG
    )
    token = torch.full((payload_bytes,), 42, dtype=torch.uint8)
    start = time.perf_counter()
    if world.rank == 0:
        sender.send(token, Kind.CONTROL, 0, 0)
    message = receiver.receive(Kind.CONTROL, 0, 0, dtype=torch.uint8, shape=(payload_bytes,))
    _expect_payload(message.tensor, 42, before)
    if world.rank != 0:
        sender.send(message.tensor, Kind.CONTROL, 0, 0)
    elapsed = time.perf_counter() - start
    sender.close()
    receiver.close()
    return elapsed * 1e6


def _ping_pong(
    world: World, peer: int, payload_bytes: int, repeats: int, deadline_s: float
) -> float:
    """Exchange messages with ``peer``; the lower rank serves. Return one-way microseconds."""
    receiver = world.open_receiver(
        "forward", peer, capacity_bytes=payload_bytes, slots=1, deadline_s=deadline_s, tag=_TAG
    )
    sender = world.open_sender(
        "forward", peer, capacity_bytes=payload_bytes, slots=1, deadline_s=deadline_s, tag=_TAG
    )
    fastest = float("inf")
    ball = torch.full((payload_bytes,), 7, dtype=torch.uint8)
    last = _WARM_UP + repeats - 1
    for turn in range(last + 1):
        start = time.perf_counter()
        if world.rank < peer:
            sender.send(ball, Kind.CONTROL, 0, turn)
        message = receiver.receive(Kind.CONTROL, 0, turn, shape=(payload_bytes,))
        if world.rank > peer:
            sender.send(message.tensor, Kind.CONTROL, 0, turn)
        if turn >= _WARM_UP:
            # The fastest, not the mean: whatever else runs on the node only ever adds time.
            fastest = min(fastest, time.perf_counter() - start)
        _expect_payload(message.tensor, 7, peer)
        if turn < last:  # else the receive posted again would take the next channel's message
            receiver.recycle(message)
    sender.close()
    receiver.close()
    return fastest * 1e6 / 2


def run_self_test(
    world: World,
    *,
    payload_sizes: Sequence[int] = (64, 32 * 2**10, 2**20),
    repeats: int = 20,
    deadline_s: float = 30.0,
) -> SelfTest:
    """Send a message around all ranks, then time each pair of neighbours; all ranks call this.

    Tensors are staged through host memory, as in training.

    Parameters
    ----------
    world
        The ranks.
    payload_sizes
        Bytes per message.
    repeats
        Round trips per pair and size, of which the fastest counts.
    deadline_s
        Longest wait for one message.

    Raises
    ------
    PeerError
        If a message does not arrive, or not as it was sent.
    """
    ring = _ring_test(world, max(payload_sizes), deadline_s)
    mine: list[float] = []
    # Pair after pair, so that no other traffic disturbs the measurement.
    for lower in range(world.size - 1):
        for payload_bytes in payload_sizes:
            if world.rank in (lower, lower + 1):
                peer = 2 * lower + 1 - world.rank
                one_way = _ping_pong(world, peer, payload_bytes, repeats, deadline_s)
                if world.rank == lower:
                    mine.append(one_way)
    results = world.gather_bytes(
        b"".join(map(_RESULT.pack, mine)),
        limit_bytes=_RESULT.size * len(payload_sizes),
        # The root takes them one after the other, and pairs are measured one after the other.
        deadline_s=deadline_s * world.size,
    )
    hops = tuple(
        HopTime(rank, rank + 1, payload_bytes, one_way)
        for rank, part in enumerate(results or ())
        for payload_bytes, (one_way,) in zip(payload_sizes, _RESULT.iter_unpack(part), strict=False)
    )
    return SelfTest(ring, hops)

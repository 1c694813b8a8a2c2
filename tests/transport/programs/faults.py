"""Rank 1 misbehaves in every way it can; rank 0 writes the lines it would show to ``lines.json``.

Each fault has a tag of its own, and a good message follows it: the channel must still work.
Arguments: result folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.header import Header, pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.mpi_library import start_mpi
from clicooper_hpc.transport.wire_dtype import DType
from clicooper_hpc.transport.world import World

STEP = 3
CAPACITY = 64
GOOD = torch.arange(4.0)
GOOD_HEADER = Header(Kind.ACTIVATION, DType.FLOAT32, (4,), STEP, 1)
BIG = 4 * 2**20


def message(header: Header, payload: bytes) -> bytes:
    return pack_header(header) + payload


FAULTS: dict[str, bytes] = {
    "garbage": np.random.default_rng(1).bytes(64),
    "long garbage": np.random.default_rng(2).bytes(128),
    "short": b"hello",
    "empty": b"",
    "announces more": message(GOOD_HEADER, bytes(8)),
    "announces less": message(GOOD_HEADER, bytes(24)),
    "too long": message(Header(Kind.ACTIVATION, DType.UINT8, (65,), STEP, 1), bytes(65)),
    "far too long": message(Header(Kind.ACTIVATION, DType.UINT8, (BIG,), STEP, 1), bytes(BIG)),
    "wrong kind": message(Header(Kind.GRADIENT, DType.FLOAT32, (4,), STEP, 1), bytes(16)),
    "wrong step": message(Header(Kind.ACTIVATION, DType.FLOAT32, (4,), 2, 1), bytes(16)),
    "wrong micro-batch": message(Header(Kind.ACTIVATION, DType.FLOAT32, (4,), STEP, 2), bytes(16)),
    "wrong dtype": message(Header(Kind.ACTIVATION, DType.INT32, (4,), STEP, 1), bytes(16)),
    "wrong shape": message(Header(Kind.ACTIVATION, DType.FLOAT32, (2, 2), STEP, 1), bytes(16)),
    "stray chunk": message(Header(Kind.ACTIVATION, DType.FLOAT32, (4,), STEP, 1, 99), bytes(16)),
}


def told(action: Callable[[], object]) -> str:
    try:
        action()
    except PeerError as error:
        return error.line()
    return "no error"


def meet(world: World) -> None:
    world.allreduce_failure(0, "", deadline_s=60.0)


def bad_messages(world: World, first_tag: int, *, polled: bool) -> dict[str, str]:
    lines = {}
    for tag, (name, raw) in enumerate(FAULTS.items(), start=first_tag):
        if world.rank == 1:
            outgoing = np.frombuffer(raw, dtype=np.uint8).copy()
            world.comms.forward.Send(outgoing, 0, tag)
            sender = world.open_sender(
                "forward", 0, capacity_bytes=CAPACITY, slots=1, deadline_s=60.0, tag=tag
            )
            sender.send(GOOD, Kind.ACTIVATION, STEP, 1)
            sender.close()
            continue
        receiver = world.open_receiver(
            "forward", 1, capacity_bytes=CAPACITY, slots=2, deadline_s=60.0, tag=tag
        )
        while polled and not receiver.ready():
            pass

        def take(receiver=receiver) -> torch.Tensor:  # type: ignore[no-untyped-def]
            got = receiver.receive(Kind.ACTIVATION, STEP, 1, dtype=torch.float32, shape=(None,))
            tensor: torch.Tensor = got.tensor
            return tensor

        lines[name] = told(take)
        assert torch.equal(take(), GOOD), name
    meet(world)
    return lines


def silence(world: World) -> dict[str, str]:
    """A peer that says nothing, then wakes up; a peer that takes nothing, then does."""
    tag = 60
    if world.rank == 1:
        meet(world)
        sender = world.open_sender(
            "forward", 0, capacity_bytes=CAPACITY, slots=1, deadline_s=60.0, tag=tag
        )
        sender.send(GOOD, Kind.ACTIVATION, STEP, 1)
        meet(world)
        taken = np.empty(BIG + 64, dtype=np.uint8)
        for _ in range(2):
            world.comms.backward.Recv(taken, 0, tag)
        return {}
    receiver = world.open_receiver(
        "forward", 1, capacity_bytes=CAPACITY, slots=2, deadline_s=0.2, tag=tag
    )
    lines = {"silent": told(lambda: receiver.receive(Kind.ACTIVATION, STEP, 1))}
    receiver.deadline_s = 60.0
    meet(world)
    assert torch.equal(receiver.receive(Kind.ACTIVATION, STEP, 1).tensor, GOOD)
    sender = world.open_sender("backward", 1, capacity_bytes=BIG, slots=1, deadline_s=0.2, tag=tag)
    big = torch.zeros(BIG, dtype=torch.uint8)
    sender.send(big, Kind.GRADIENT, STEP, 0)
    lines["not taken"] = told(lambda: sender.send(big, Kind.GRADIENT, STEP, 1))
    lines["not flushed"] = told(lambda: sender.flush(0.1))
    meet(world)
    sender.deadline_s = 60.0
    sender.send(big, Kind.GRADIENT, STEP, 1)
    sender.flush()
    return lines


def bad_blobs(world: World) -> dict[str, str]:
    """A blob longer than allowed, one of another kind, one whose chunks have odd lengths."""
    content = bytes(1000)
    lines = {}
    cases = {
        "blob too long": (Kind.SEGMENT, 999),
        "blob far too long": (Kind.SEGMENT, 10),
        "blob of another kind": (Kind.LABELS, 1000),
    }
    for name, (kind, limit) in cases.items():
        if world.rank == 1:
            world.send_blob(0, content, kind=Kind.SEGMENT, step=STEP, deadline_s=60.0)
        else:
            lines[name] = told(
                lambda kind=kind, limit=limit: world.receive_blob(  # type: ignore[misc]
                    1, kind=kind, step=STEP, limit_bytes=limit, deadline_s=60.0
                )
            )
        meet(world)
    if world.rank == 1:
        odd = message(Header(Kind.SEGMENT, DType.UINT8, (400,), STEP, 0, 1000), bytes(400))
        world.comms.control.Send(np.frombuffer(odd, dtype=np.uint8).copy(), 0, 100)
        huge = message(Header(Kind.SEGMENT, DType.UINT8, (4,), STEP, 0, 2**60), bytes(4))
        world.comms.control.Send(np.frombuffer(huge, dtype=np.uint8).copy(), 0, 100)
    else:
        for name in ("odd chunk", "huge blob"):
            lines[name] = told(
                lambda: world.receive_blob(
                    1, kind=Kind.SEGMENT, step=STEP, limit_bytes=1000, deadline_s=60.0
                )
            )
    meet(world)
    return lines


def out_of_step(world: World) -> dict[str, str]:
    """Rank 1 is one exchange ahead: each notices at the next message of the other."""
    if world.rank == 1:
        world.broadcast_bytes(b"early", root=1, limit_bytes=9, deadline_s=60.0)
        line = told(lambda: world.broadcast_bytes(None, root=0, limit_bytes=9, deadline_s=60.0))
        world.send_blob(0, line.encode(), kind=Kind.CONTROL, step=0, deadline_s=60.0)
        return {}
    world.broadcast_bytes(b"first", root=0, limit_bytes=9, deadline_s=60.0)
    line = told(lambda: world.broadcast_bytes(None, root=1, limit_bytes=9, deadline_s=60.0))
    theirs = world.receive_blob(1, kind=Kind.CONTROL, step=0, limit_bytes=999, deadline_s=60.0)
    return {"behind": line, "ahead": theirs.decode()}


def main(folder: Path) -> None:
    with start_mpi() as world:
        lines = bad_messages(world, 0, polled=False)
        polled = bad_messages(world, 20, polled=True)
        # A world of this name matches before it receives, whichever library runs this.
        with World(world.comms, library="Open MPI", processors=(), local_rank=0, cores=1) as last:
            matched = bad_messages(last, 40, polled=False)
        lines |= silence(world) | bad_blobs(world) | out_of_step(world)
        if world.rank == 0:
            text = json.dumps({"lines": lines, "polled": polled, "matched": matched})
            (folder / "lines.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

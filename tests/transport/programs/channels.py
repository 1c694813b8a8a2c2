"""Everything that must work between ranks; each rank writes what it saw to ``rank-N.json``.

Rank r sends forward to r+1 and backward to r-1, as a pipeline does. Arguments: result folder.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clicooper_hpc.transport.blob import CHUNK_BYTES
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi
from clicooper_hpc.transport.wire_dtype import DType, torch_dtype_of
from clicooper_hpc.transport.world import World

DEADLINE_S = 60.0
BLOB_SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5)


def ordering(world: World) -> list[list[float]]:
    """Both directions at once, more messages than slots; returns what came, in order."""
    up, down = world.rank - 1, world.rank + 1
    has_up, has_down = up >= 0, down < world.size
    options: dict[str, Any] = {"capacity_bytes": 64, "slots": 3, "deadline_s": DEADLINE_S}
    ahead = world.open_sender("forward", down, **options) if has_down else None
    back = world.open_sender("backward", up, **options) if has_up else None
    from_up = world.open_receiver("forward", up, **options) if has_up else None
    from_down = world.open_receiver("backward", down, **options) if has_down else None
    came: list[list[float]] = [[], []]
    for index in range(40):
        step, micro_batch = divmod(index, 8)
        tensor = torch.full((4,), 100.0 * world.rank + index)
        if ahead is not None:
            ahead.send(tensor, Kind.ACTIVATION, step, micro_batch)
        if back is not None:
            back.send(tensor, Kind.GRADIENT, step, micro_batch)
        for slot, (channel, kind) in enumerate(
            ((from_up, Kind.ACTIVATION), (from_down, Kind.GRADIENT))
        ):
            if channel is not None:
                message = channel.receive(kind, step, micro_batch)
                came[slot].append(float(message.tensor.mean()))
                channel.recycle(message)
    return came


def pair(world: World, tag: int, capacity: int, slots: int, work: Callable[..., Any]) -> Any:
    """Run ``work(sender, receiver)`` on ranks 0 (sends) and 1 (receives)."""
    options: dict[str, Any] = {
        "capacity_bytes": capacity,
        "slots": slots,
        "deadline_s": DEADLINE_S,
        "tag": tag,
    }
    if world.rank == 0:
        return work(world.open_sender("forward", 1, **options), None)
    if world.rank == 1:
        return work(None, world.open_receiver("forward", 0, **options))
    return None


def back_pressure(sender: Any, receiver: Any) -> list[bool]:
    """One slot at each end, a slow receiver, messages too long to be buffered by MPI."""
    whole = []
    for index in range(6):
        if sender is not None:
            sender.send(torch.full((500_000,), float(index)), Kind.RELEASE, 0, index)
        else:
            time.sleep(0.02)
            message = receiver.receive(Kind.RELEASE, 0, index)
            whole.append(bool((message.tensor == index).all()))
            receiver.recycle(message)
    return whole


SHAPES = ((8, 3, 4), (5, 3, 4), (0, 3, 4), (), (7,), (1, 2, 1, 2, 1, 2))


def shapes(sender: Any, receiver: Any) -> list[Any]:
    """Uneven last micro-batches, none at all, scalars, six dimensions."""
    got: list[Any] = []
    for index, shape in enumerate(SHAPES):
        count = int(np.prod(shape, dtype=int))
        tensor = torch.arange(count, dtype=torch.float32).reshape(shape)
        if sender is not None:
            sender.send(tensor, Kind.ACTIVATION, 0, index)
        else:
            message = receiver.receive(
                Kind.ACTIVATION, 0, index, dtype=torch.float32, shape=(None,) * len(shape)
            )
            got.append([list(message.tensor.shape), torch.equal(message.tensor, tensor)])
            receiver.recycle(message)
    return got


def dtypes(sender: Any, receiver: Any) -> list[bool]:
    """All types keep all bits of finite numbers, -0 among them; others are refused."""
    same = []
    bits = torch.from_numpy(np.random.default_rng(5).integers(0, 256, 256, dtype=np.uint8))
    for index, dtype in enumerate(DType):
        tensor = bits.view(torch_dtype_of(dtype)).clone()
        if tensor.is_floating_point():
            tensor[~tensor.isfinite()] = -0.0
        if sender is not None:
            sender.send(tensor, Kind.LOGITS, 0, index)
        else:
            message = receiver.receive(Kind.LOGITS, 0, index, dtype=tensor.dtype)
            same.append(torch.equal(message.tensor.view(torch.uint8), tensor.view(torch.uint8)))
            receiver.recycle(message)
    return same


def sources(sender: Any, receiver: Any) -> list[Any]:
    """Strided tensors and tensors of an autograd graph, changed right after the send."""
    tensor = torch.arange(12.0).reshape(3, 4)
    if sender is not None:
        strided = tensor.clone().t()
        sender.send(strided, Kind.ACTIVATION, 0, 0)
        strided.zero_()
        graph = tensor.clone().requires_grad_() * 2
        sender.send(graph, Kind.ACTIVATION, 0, 1)
        return []
    first = receiver.receive(Kind.ACTIVATION, 0, 0).tensor
    second = receiver.receive(Kind.ACTIVATION, 0, 1).tensor
    return [torch.equal(first, tensor.t()), torch.equal(second, tensor * 2), second.requires_grad]


def leaves(sender: Any, receiver: Any) -> list[Any]:
    """As many messages held as there are slots; each gathers its own gradient."""
    if sender is not None:
        for index in range(6):
            sender.send(torch.full((3,), float(index)), Kind.ACTIVATION, 0, index)
        return []
    seen: list[Any] = []
    for start in (0, 3):
        held = [receiver.receive(Kind.ACTIVATION, 0, start + k) for k in range(3)]
        for message in held:
            message.tensor.requires_grad_()
        total = sum((message.tensor**2).sum() for message in held)
        assert isinstance(total, torch.Tensor)
        torch.autograd.backward(total)
        for message in held:
            assert message.tensor.grad is not None
            seen.append(message.tensor.grad.tolist())
            assert message.tensor_on(torch.device("cpu")) is message.tensor
            receiver.recycle(message)
    try:
        receiver.recycle(held[0])
    except ValueError as error:
        seen.append(str(error))
    return seen


def stale(sender: Any, receiver: Any) -> str:
    """A message recycled before the backward pass that needs it."""
    if sender is not None:
        sender.send(torch.ones(3), Kind.ACTIVATION, 0, 0)
        return ""
    message = receiver.receive(Kind.ACTIVATION, 0, 0)
    total = (message.tensor.requires_grad_() ** 2).sum()
    receiver.recycle(message)
    try:
        torch.autograd.backward(total)
    except RuntimeError as error:
        return str(error)
    return "no error"


def ready(world: World, sender: Any, receiver: Any) -> list[bool]:
    """``ready`` turns true by itself and takes nothing away."""
    signal: dict[str, Any] = {"kind": Kind.CONTROL, "step": 0, "deadline_s": DEADLINE_S}
    if sender is not None:
        world.receive_blob(1, limit_bytes=6, **signal)
        sender.send(torch.ones(2), Kind.NORM, 0, 0)
        return []
    before = receiver.ready()
    world.send_blob(0, b"looked", **signal)
    while not receiver.ready():
        time.sleep(0.001)
    message = receiver.receive(Kind.NORM, 0, 0)
    return [before, receiver.ready(), bool((message.tensor == 1).all())]


def blobs(world: World) -> list[str]:
    """Long byte strings and arrays from rank 0 to the last rank; returns their digests."""
    rng = np.random.default_rng(11)
    contents = [rng.integers(0, 256, size, dtype=np.uint8) for size in BLOB_SIZES]
    table = rng.integers(0, 40, (1000, 3), dtype=np.int32)
    weights = torch.from_numpy(rng.normal(size=(300, 100))).to(torch.bfloat16).t()
    last = world.size - 1
    sent: list[Any] = [content.tobytes() for content in contents]
    sent += [table[::2], weights]
    plain = [content.tobytes() for content in contents]
    plain += [table[::2].tobytes(), weights.contiguous().view(torch.int16).numpy().tobytes()]
    result = []
    for step, payload in enumerate(sent):
        if world.rank == 0:
            world.send_blob(last, payload, kind=Kind.SEGMENT, step=step, deadline_s=DEADLINE_S)
            result.append(hashlib.sha256(plain[step]).hexdigest())
        elif world.rank == last:
            content = world.receive_blob(
                0,
                kind=Kind.SEGMENT,
                step=step,
                limit_bytes=len(plain[step]),
                deadline_s=DEADLINE_S,
            )
            result.append(hashlib.sha256(content).hexdigest())
    return result


def exchanges(world: World) -> dict[str, Any]:
    """Broadcast from each rank, gather to each rank, verdicts."""
    limits: dict[str, Any] = {"limit_bytes": 100, "deadline_s": DEADLINE_S}
    mine = f"rank {world.rank}".encode()
    heard = [
        world.broadcast_bytes(mine if world.rank == root else None, root=root, **limits).decode()
        for root in range(world.size)
    ]
    gathered = [world.gather_bytes(mine, root=root, **limits) for root in range(world.size)]
    fine = world.allreduce_failure(0, "", deadline_s=DEADLINE_S)
    failed = world.rank > 0
    bad = world.allreduce_failure(
        2 + world.rank % 4 if failed else 0,
        f"no: {world.rank}" if failed else "",
        deadline_s=DEADLINE_S,
    )
    return {
        "heard": heard,
        "gathered": [
            None if parts is None else [part.decode() for part in parts] for parts in gathered
        ],
        "fine": [fine.code, fine.message, fine.rank],
        "bad": [bad.code, bad.message, bad.rank],
    }


def main(folder: Path) -> None:
    with start_mpi() as world:
        check_mpi_world(world)
        world.tap_into(folder)
        result: dict[str, Any] = {
            "rank": world.rank,
            "size": world.size,
            "library": world.library,
            "processors": list(world.processors),
            "local_rank": world.local_rank,
            "ordering": ordering(world),
            "back_pressure": pair(world, 1, 2_000_000, 1, back_pressure),
            "shapes": pair(world, 2, 384, 2, shapes),
            "dtypes": pair(world, 3, 256, 2, dtypes),
            "sources": pair(world, 4, 48, 2, sources),
            "leaves": pair(world, 5, 12, 3, leaves),
            "ready": pair(world, 6, 8, 1, partial(ready, world)),
            "stale": pair(world, 7, 12, 1, stale),
            "blobs": blobs(world),
            "exchanges": exchanges(world),
        }
        # Receives stay posted on all channels: closing the world must withdraw them.
        result["traffic"] = {
            f"{direction} {way}": [counters.messages, counters.bytes]
            for (direction, way), counters in world.traffic().items()
        }
        (folder / f"rank-{world.rank}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Race: our 1F1B over MPI against torch.distributed.pipelining's over gloo, in the same processes.

mpiexec -n 2 python bench/race_torch_pipelining.py [ROUNDS]

Two segments of the same convnet, the same batch, the same micro-batches; rounds alternate between
the two, so both meet the same load of the machine. Prints samples/s of each and the median of the
paired ratios. Both train the same weights: their largest difference is printed too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.pipeline.optim import SGDOptimizer
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime, StepSettings
from clicooper_hpc.pipeline.schedule import make_schedule
from clicooper_hpc.pipeline.segment import Segment
from clicooper_hpc.pipeline.simulator import simulate_required_slots
from clicooper_hpc.training.batches import split_batch_rows
from clicooper_hpc.transport.mpi_library import start_mpi
from clicooper_hpc.transport.world import World

BATCH, MICRO_BATCHES, CUT, CLASSES = 128, 8, 8, 10
SHAPE = (3, 32, 32)
STEPS = 4
CHANNELS = [32, 64, 128]
RATE, MOMENTUM = 0.01, 0.9


def network() -> list[nn.Module]:
    model = build_model(
        "vgg", input_shape=SHAPE, outputs=CLASSES, seed=0, options={"channels": CHANNELS}
    )
    return list(model)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn((BATCH, *SHAPE), generator=generator),
        torch.randint(CLASSES, (BATCH,), generator=generator),
    )


def ours(world: World) -> tuple[Callable[[], None], nn.Module]:
    layers = network()
    first = world.rank == 0
    part = nn.Sequential(*(layers[:CUT] if first else layers[CUT:]))
    boundary = nn.Sequential(*layers[:CUT]).eval()(torch.zeros(1, *SHAPE)).shape[1:]
    rows, targets = batch()
    parts = split_batch_rows(BATCH, MICRO_BATCHES)
    schedule = make_schedule("1f1b", 2, MICRO_BATCHES)
    sizes = {
        "capacity_bytes": 4 * len(parts[0]) * boundary.numel(),
        "slots": simulate_required_slots(schedule, "backprop") + 1,
        "deadline_s": 120.0,
    }
    edges = (
        Edges(
            activation_out=world.open_sender("forward", 1, **sizes),
            gradient_in=world.open_receiver("backward", 1, **sizes),
        )
        if first
        else Edges(
            activation_in=world.open_receiver("forward", 0, **sizes),
            gradient_out=world.open_sender("backward", 0, **sizes),
        )
    )
    segment = Segment(
        part,
        first_layer=0 if first else CUT,
        seed=0,
        device=torch.device("cpu"),
        precision="float32",
    )
    runtime = SegmentRuntime(
        segment,
        input_shape=SHAPE if first else tuple(boundary),
        edges=edges,
        settings=StepSettings(0.0, None, "float32", "float32"),
        is_last=not first,
        head=None,
        optimizer=SGDOptimizer(list(part.parameters()), momentum=MOMENTUM, weight_decay=0.0),
    )
    step = 0

    def run() -> None:
        nonlocal step
        runtime.train_step(
            step,
            schedule[world.rank],
            released=(lambda m: rows[parts[m].start : parts[m].stop]) if first else None,
            targets=[targets[p.start : p.stop] for p in parts],
            batch_rows=BATCH,
            learning_rate=RATE,
        )
        step += 1

    return run, part


def theirs(world: World) -> tuple[Callable[[], None], nn.Module]:
    layers = network()
    first = world.rank == 0
    part = nn.Sequential(*(layers[:CUT] if first else layers[CUT:])).train()
    stage = PipelineStage(part, world.rank, 2, torch.device("cpu"))
    schedule = Schedule1F1B(stage, MICRO_BATCHES, loss_fn=nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(part.parameters(), lr=RATE, momentum=MOMENTUM)
    rows, targets = batch()

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        if first:
            schedule.step(rows)
        else:
            schedule.step(target=targets)
        optimizer.step()

    return run, part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=15, metavar="ROUNDS")
    rounds: int = parser.parse_args().rounds
    torch.set_num_threads(1)
    world = start_mpi()
    place = None if world.rank else tempfile.mkdtemp().encode()
    folder = world.broadcast_bytes(place, limit_bytes=4096, deadline_s=60).decode()
    store = Path(folder) / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=world.rank, world_size=2)
    racers = {"clicooper": ours(world), "torch": theirs(world)}
    times: dict[str, list[float]] = {name: [] for name in racers}
    for number in range(rounds + 1):
        # Who goes first alternates; the first round warms up.
        for name in sorted(racers, reverse=bool(number % 2)):
            dist.barrier()
            start = time.perf_counter()
            for _ in range(STEPS):
                racers[name][0]()
            dist.barrier()
            if number:
                times[name].append(time.perf_counter() - start)
    gap = max(
        float((a - b).detach().abs().max())
        for a, b in zip(
            racers["clicooper"][1].parameters(), racers["torch"][1].parameters(), strict=True
        )
    )
    print(f"rank {world.rank}: largest weight difference {gap:.2e}", flush=True)
    dist.barrier()
    if world.rank == 0:
        for name, values in times.items():
            rate = [STEPS * BATCH / value for value in values]
            print(
                f"{name}: {statistics.median(rate):.1f} samples/s (best {max(rate):.1f}, "
                f"worst {min(rate):.1f}, {rounds} rounds of {STEPS} steps)"
            )
        ratios = [b / a for a, b in zip(times["clicooper"], times["torch"], strict=True)]
        print(
            f"clicooper / torch, paired: median {statistics.median(ratios):.3f} "
            f"(range {min(ratios):.3f} to {max(ratios):.3f})"
        )
    world.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

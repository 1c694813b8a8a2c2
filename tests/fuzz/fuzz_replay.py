"""A short, repeatable fuzz run without guidance: seeds, and seeds changed by a seeded generator."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from random import Random

from fuzz_target import Fault, FuzzTarget, judge_input
from mutations import change_input

RUNS, FILE_RUNS = 300, 40


def replay_target(target: FuzzTarget) -> tuple[int, list[Fault]]:
    """Return how many seeds of ``target`` are taken, and the faults of seeds and changed seeds."""
    seeds, rng = target.seeds(), Random(target.name)
    taken = 0
    for seed in seeds:
        try:
            target.read(seed)
            taken += 1
        except target.refusals:
            continue
    inputs = [*seeds, b""]
    for _ in range(FILE_RUNS if target.files else RUNS):
        other = rng.choice(seeds)
        inputs.append(change_input(rng.choice(seeds), rng, form=target.form, other=other))
    faults = [judge_input(target, one) for one in inputs]
    return taken, [fault for fault in faults if fault is not None]


if __name__ == "__main__":
    # In a process of its own, as a C library may end it: module, then target.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    module = importlib.import_module(sys.argv[1])
    (chosen,) = (one for one in module.TARGETS if one.name == sys.argv[2])
    taken_seeds, found = replay_target(chosen)
    json.dump([taken_seeds, [f"{fault.key}\n{fault.report}" for fault in found]], sys.stdout)

"""Fuzz parsers, guided by the branches they take.

    make fuzz FUZZ_ARGS="job-toml --minutes 5"
    make fuzz FUZZ_ARGS="--table"

Every target runs in a process of its own, under Atheris (libFuzzer). What it keeps lies in
``runs/fuzz/NAME``: ``corpus/``, inputs that reach a branch of their own; ``faults/``, for each
fault the first input and what came of it; ``state.json``, the counts. An input that ends the
process itself is some C library's fault: it is counted, and not kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

OUTPUT = Path("runs/fuzz")
#: Address space of a fuzzed process beyond what it has when it begins.
MEMORY_BYTES = 2 * 2**30
RUNS, FILE_RUNS = 2_000_000, 20_000
#: Longest time for one input, in seconds of wall time: then libFuzzer ends the process.
HANG_S = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the targets named, print a table, return 1 if there was a fault."""
    options = _parse(arguments)
    if options.child:
        _fuzz(options)
        return 0
    if options.table:
        print(_table())
        return 0
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fuzz_targets import FAMILY_OF, TARGETS

    names = options.targets or list(TARGETS)
    unknown = sorted(set(names) - set(TARGETS))
    if unknown:
        sys.exit(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    print(f"{'target':24} {'runs':>10} {'seconds':>8} {'faults':>6} {'deaths':>6}")
    failed = False
    for name in names:
        runs = options.runs or (FILE_RUNS if TARGETS[name].files else RUNS)
        state = _fuzz_to_the_end(name, FAMILY_OF[name], runs, options)
        failed = failed or bool(state["faults"]) or bool(state["deaths"])
        print(
            f"{name:24} {state['runs']:>10,} {state['seconds']:>8.0f} {len(state['faults']):>6}"
            f" {state['deaths']:>6}",
            flush=True,
        )
        for key in state["faults"]:
            print(f"    {key}", flush=True)
    return int(failed)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="targets (default: all)")
    parser.add_argument(
        "--runs", type=int, help=f"of each (default: {RUNS:,}, files {FILE_RUNS:,})"
    )
    parser.add_argument("--minutes", type=float, default=0, help="at most, for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="show the last run of every target")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _fuzz_to_the_end(
    name: str, family: str, runs: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Start the process of a target, again when it died, until all runs are done."""
    folder = OUTPUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "total.json").unlink(missing_ok=True)
    (folder / "state.json").write_text('{"runs": 0, "faults": []}')
    total: dict[str, Any] = {"runs": 0, "seconds": 0.0, "faults": [], "deaths": 0}
    began, seed = time.monotonic(), options.seed
    while total["runs"] < runs and total["deaths"] < 100:
        left = options.minutes * 60 - (time.monotonic() - began) if options.minutes else 0
        if options.minutes and left <= 0:
            break
        command = [
            sys.executable,
            __file__,
            "--child",
            family,
            name,
            f"--runs={runs - total['runs']}",
        ]
        command += [f"--minutes={left / 60}", f"--seed={seed}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            code = process.wait()
        seed += 1
        state = json.loads((folder / "state.json").read_text())
        if not state["runs"]:
            sys.exit(f"{name} cannot be started: see {folder / 'log'}")
        total["runs"] += state["runs"]
        total["faults"] = sorted({*total["faults"], *state["faults"]})
        # A C library ends the process by a signal; behind the last run it may be libFuzzer's clock.
        if code == 0 or total["runs"] >= runs:
            break
        total["deaths"] += 1
        (folder / "log").replace(folder / f"log-{total['deaths']}")
        for trigger in Path(tempfile.gettempdir()).glob(f"fuzz-{process.pid}-*"):
            trigger.unlink()
        print(f"    {name}: process ended with {code} in run {total['runs']:,}", flush=True)
    total["seconds"] = time.monotonic() - began
    (folder / "total.json").write_text(json.dumps(total, indent=1))
    return total


def _table() -> str:
    """Return the last run of every target, also one that still goes on, as a Markdown table."""
    lines = ["| target | runs | faults | process ended |", "|---|---|---|---|"]
    for folder in sorted(path.parent for path in OUTPUT.glob("*/state.json")):
        # Without a total it still runs.
        name = "total.json" if (folder / "total.json").exists() else "state.json"
        state = {"deaths": 0, **json.loads((folder / name).read_text())}
        faults = len(state["faults"])
        lines.append(f"| {folder.name} | {state['runs']:,} | {faults} | {state['deaths']} |")
    return "\n".join(lines)


class _Judge:
    """Gives inputs to one target; counts, and keeps the first input of every fault."""

    def __init__(self, target: Any, folder: Path, judge: Any) -> None:
        self._target, self._folder, self._judge_input = target, folder, judge
        self._faults: set[str] = set()
        self._runs = 0
        (folder / "faults").mkdir(exist_ok=True)
        self.store()

    def __call__(self, content: bytes) -> None:
        self._runs += 1
        # A process that dies is to have said how far it came.
        if self._target.foreign or self._runs % 1000 == 0:
            self.store()
        fault = self._judge_input(self._target, content)
        if fault is not None and fault.key not in self._faults:
            self._faults.add(fault.key)
            place = self._folder / "faults" / f"{len(self._faults):03d}"
            place.with_suffix(".input").write_bytes(content)
            place.with_suffix(".txt").write_text(
                f"{fault.key}\n\n{fault.report}", "utf-8", "replace"
            )
            self.store()

    def store(self) -> None:
        """Write the counts."""
        state = {"runs": self._runs, "faults": sorted(self._faults)}
        aside = self._folder / "state.part"
        aside.write_text(json.dumps(state))
        aside.replace(self._folder / "state.json")


def _fuzz(options: argparse.Namespace) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    (name,) = options.targets
    # One family alone: to instrument the whole package takes longer than most runs.
    with atheris.instrument_imports(include=["clicooper_hpc", "tomllib"]):
        family = importlib.import_module(options.child)
    from fuzz_target import judge_input
    from mutations import TOKENS, change_json

    (target,) = (one for one in family.TARGETS if one.name == name)
    folder = OUTPUT / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = target.seeds()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    judge = _Judge(target, folder, judge_input)

    rng = Random(options.seed)

    def change(content: bytes, most: int, seed: int) -> bytes:
        if rng.random() < 0.4:
            changed = change_json(content, rng)
            if changed is not None and len(changed) <= most:
                return changed
        return bytes(atheris.Mutate(content, most))

    longest = max(4096, 2 * max(map(len, seeds), default=0))
    arguments = [
        sys.argv[0],
        f"-atheris_runs={options.runs}",
        f"-max_len={longest}",
        f"-seed={options.seed}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={8 * MEMORY_BYTES >> 20}",
        # What ends the process is not kept.
        f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{os.getpid()}-",
        "-print_final_stats=1",
        f"-dict={folder / 'tokens'}",
        str(corpus),
    ]
    if options.minutes:
        arguments.insert(1, f"-max_total_time={max(1, round(60 * options.minutes))}")
    if target.foreign:
        arguments.insert(1, "-handle_segv=0")
    (folder / "tokens").write_text("".join(map(_dictionary_line, TOKENS)))
    # libFuzzer's own changes are fast; only JSON needs ours, to stay well-formed.
    atheris.Setup(arguments, judge, custom_mutator=change if target.form == "json" else None)
    _limit_memory()
    import atexit

    atexit.register(judge.store)
    atheris.Fuzz()


def _dictionary_line(token: bytes) -> str:
    # libFuzzer takes no words above 64 bytes.
    word = token[:64]
    return '"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n'


def _limit_memory() -> None:
    """A parser that asks for much more than its input gets `MemoryError`, which is a fault."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())

"""Readers of the HDF5 files of a run folder: index, shard of a rank, findings of attacks."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fuzz_target import FuzzTarget
from runstore_example import finished_run

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.runstore.attack_record import (
    AttackRecord,
    pack_attack_record,
    read_attack_findings,
    unpack_attack_record,
)
from clicooper_hpc.runstore.reader import Run, open_run


@functools.cache
def _temporary() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="fuzz-")


@functools.cache
def _run() -> Path:
    """A run folder whose files are good until one is replaced."""
    return finished_run(Path(_temporary().name) / "run", ranks=2, steps=3).path


@functools.cache
def _good(name: str) -> bytes:
    return (_run() / name).read_bytes()


def _read_all(run: Run) -> None:
    """Everything a user asks of a run; what cannot be had is an error of ours, the rest goes on."""
    reads: list[Callable[[], object]] = [
        run.summary,
        run.index_content,
        lambda: run.status,
        lambda: run.job,
        lambda: run.changed_ranks,
        lambda: run.table("steps"),
        lambda: run.table("training", 1),
        lambda: run.stored_rows(1),
        run.to_xarray,
    ]
    for read in reads:
        with contextlib.suppress(ClicooperError):
            read()


def _replaced(name: str, content: bytes) -> None:
    original = _good(name)
    path = _run() / name
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _read_all(open_run(_run()))
    finally:
        path.write_bytes(original)


def _findings() -> list[bytes]:
    texts = dict.fromkeys(("attack", "variant", "party", "metric", "kind", "note"), "a")
    numbers = dict.fromkeys(("value", "low", "high", "chance", "baseline", "ceiling"), 0.5)
    arrays = {("a", "trainer 1", 0, "map"): np.arange(12, dtype=np.float32).reshape(3, 4)}
    return [
        pack_attack_record(AttackRecord({"run_id": "x"}, [{**texts, **numbers, "seed": 1}], arrays))
    ]


def _read_findings(content: bytes) -> None:
    unpack_attack_record(content, where="input")
    path = _run() / "attacks.h5"
    path.write_bytes(content)
    read_attack_findings(path)


TARGETS: Sequence[FuzzTarget] = (
    FuzzTarget(
        "run-index",
        lambda: [_good("run.h5")],
        lambda content: _replaced("run.h5", content),
        files=True,
        foreign=True,
    ),
    FuzzTarget(
        "run-shard",
        lambda: [_good("rank-001.h5"), _good("rank-000.h5")],
        lambda content: _replaced("rank-001.h5", content),
        files=True,
        foreign=True,
    ),
    FuzzTarget("attack-findings", _findings, _read_findings, files=True, foreign=True),
)

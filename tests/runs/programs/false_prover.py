"""false_prover.py RANK LIE ARGUMENTS...: the command line, with one trainer that proves falsely.

LIE is what it does with its own key, all else honest: ``unenrolled`` (names no mark), ``unmarked``
(leaves its mark out of a proof), ``tables`` (signs other rows than it wrote), ``messages`` (writes
and signs a false message digest), ``heads`` (stores a false head of the ledger), ``checkpoint``
(keeps another state than it proved), ``units`` (gives its finished file other units).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.tables.shard_writer import ShardWriter
from clicooper_hpc.trainer.marker import Marker
from clicooper_hpc.trainer.stage_recorder import StageRecorder

RANK, LIE = int(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
FALSE = "ab" * 32


def lies(what: str) -> bool:
    return what == LIE and bool(sys.modules["mpi4py.MPI"].COMM_WORLD.Get_rank() == RANK)


honest_plan, honest_claim = Marker.plan_claim, Marker.claim_mark
honest_seal, honest_messages = StageRecorder.seal_stage, StageRecorder.append_messages
honest_state, honest_append = StageRecorder.keep_state, ShardWriter.append
honest_finish = ShardWriter._finish


def plan(self: Marker) -> Any:
    return None if lies("unenrolled") else honest_plan(self)


def claim(self: Marker) -> Any:
    return None if lies("unmarked") else honest_claim(self)


def seal(self: StageRecorder) -> str:
    digest = honest_seal(self)
    return FALSE if lies("tables") else digest


def messages(self: StageRecorder, stage: int, records: Mapping[Any, Any]) -> None:
    if lies("messages"):
        record = records["forward_in"]
        false = replace(record, digests=[bytes.fromhex(FALSE), *record.digests[1:]])
        records = {**records, "forward_in": false}
    honest_messages(self, stage, records)


def state(self: StageRecorder, stage: int, step: int, content: bytes) -> None:
    if lies("checkpoint"):
        # Longer, so that it is no second name of the checkpoint a restart would begin from.
        from safetensors.numpy import load, save

        content = save({**load(content), "training/extra": np.zeros(3)})
    honest_state(self, stage, step, content)


def append(self: ShardWriter, table: str, values: Mapping[str, Any]) -> None:
    false = lies("heads") and table == "heads"
    honest_append(self, table, {**values, "root": FALSE} if false else values)


def finish(self: ShardWriter) -> None:
    honest_finish(self)
    if lies("units"):
        with h5py.File(self.path, "r+", locking=False) as file:
            file["training/loss"].attrs["units"] = np.bytes_(b"1")


Marker.plan_claim, Marker.claim_mark = plan, claim  # type: ignore[method-assign]
StageRecorder.seal_stage, StageRecorder.append_messages = seal, messages  # type: ignore[method-assign]
StageRecorder.keep_state = state  # type: ignore[method-assign]
ShardWriter.append = append  # type: ignore[assignment, method-assign]
ShardWriter._finish = finish  # type: ignore[method-assign]
sys.exit(main())

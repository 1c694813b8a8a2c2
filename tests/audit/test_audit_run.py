"""A run on real ranks, replayed in one process: the same messages, byte for byte, and weights."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
from replay import delivered
from start import train as start_run

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.audit.replayed_release import replayed_release_digests
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.audit.verdict import StageOutcome, exact_verdict
from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime
from clicooper_hpc.run.build import build_layout, build_network, build_run_plan, build_runtime
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.message_digests import message_digest
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_bounds
from clicooper_hpc.training.segment_state import export_segment_state
from clicooper_hpc.transport.header import pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("one_thread")]

#: 150 samples, batches of 32 (the last of 22) in 5 micro-batches: nothing is even.
JOB = """
[data]
path = "digits"
train_rows = 170
test_rows = 50
validation_rows = 20
[front]
kind = "random"
dim = 12
[privacy]
epsilon = 50.0
[labels]
expansion = 2
[model]
options = { widths = [24, 24, 24], dropout = 0.2 }
[pipeline]
micro_batches = 5
[training]
epochs = 2
batch_size = 32
learning_rate = 0.05
label_smoothing = 0.1
warmup_steps = 2
clip_norm = 0.5
[provenance]
marks = "off"
[output]
record_wire = true
"""
DIRECTIONS = {
    (Kind.RELEASE, 1): "forward",
    (Kind.ACTIVATION, 1): "forward",
    (Kind.GRADIENT, -1): "backward",
    (Kind.NORM, 1): "forward",
    (Kind.NORM, -1): "backward",
}


class Recorded:
    """What a run left: job, messages, released rows, delivered weights."""

    def __init__(self, run: Run) -> None:
        self.job = load_canonical_job(json.dumps(run.job))
        self.segments = len(run.ranks) - 1
        self.weights = delivered(run)
        self.labels: NDArray[np.int32] = np.zeros(0, np.int32)
        self.messages: dict[Stream, list[tuple[int, bytes]]] = {}
        self._sent: dict[tuple[int, int], Tensor] = {}
        for rank in range(self.segments + 1):
            for header, payload, peer in read_tap(
                run.folder.path / "wire" / f"rank-{rank:03d}.wire"
            ):
                if header.kind is Kind.CONTROL and header.blob_bytes == 4 * 150:
                    self.labels = np.frombuffer(payload, dtype=np.int32)
                direction = DIRECTIONS.get((header.kind, peer - rank))
                if direction is None:
                    continue
                stream = Stream(min(rank, peer), direction)  # type: ignore[arg-type]
                digest = message_digest(pack_header(header) + payload)
                self.messages.setdefault(stream, []).append((header.step, digest))
                if header.kind is Kind.RELEASE:
                    rows = np.frombuffer(payload, dtype=np.float32).reshape(header.shape)
                    self._sent[header.step, header.micro_batch] = torch.from_numpy(rows.copy())
        self.contract = Contract((12,), 150, 20, 20)
        self.plan: RunPlan = build_run_plan(self.job, self.contract, self.labels, self.segments)
        self.steps = [e for e in self.plan.planned_events() if isinstance(e, TrainStep)]
        self._rows: dict[int, Tensor] = {}
        for event in self.steps:
            for micro_batch, part in enumerate(
                self.plan.planned_micro_batches(len(event.batch.sub_labels))
            ):
                if (event.step, micro_batch) in self._sent:
                    ids = event.batch.ids[part.start : part.stop].reshape(-1).tolist()
                    rows_of = self._sent[event.step, micro_batch]
                    self._rows.update(zip(ids, rows_of, strict=True))

    def rows(self, ids: NDArray[np.int64]) -> Tensor:
        return torch.stack([self._rows[number] for number in ids.tolist()])

    def runtimes(self) -> list[SegmentRuntime]:
        model = build_network(self.job, self.contract)
        layout = build_layout(self.job, model, self.contract, self.segments)
        return [
            build_runtime(
                self.job,
                model,
                layout,
                segment=segment,
                outputs=self.contract.outputs,
                device=torch.device("cpu"),
                edges=Edges(),
            )
            for segment in range(self.segments)
        ]

    def digests(self, steps: list[TrainStep]) -> dict[Stream, list[bytes]]:
        numbers = {event.step for event in steps}
        return {
            stream: [digest for step, digest in messages if step in numbers]
            for stream, messages in self.messages.items()
        }


def replay_in_stages(recorded: Recorded, stages: int) -> list[tuple[list[TrainStep], StageReplay]]:
    states = [export_segment_state(runtime) for runtime in recorded.runtimes()]
    found = []
    for first, last in pairwise(plan_stage_bounds(len(recorded.steps), stages)):
        steps = recorded.steps[first:last]
        result = replay_stage(recorded.runtimes(), states, recorded.plan, steps, recorded.rows)
        found.append((steps, result))
        states = [*result.states]
    return found


@pytest.mark.parametrize(
    ("ranks", "overrides"),
    [
        pytest.param(3, ["training.average_rows=3"], marks=pytest.mark.matrix),
        pytest.param(
            4,
            ["pipeline.schedule=gpipe", "training.optimizer=adamw", "release.cache=none"],
            marks=pytest.mark.matrix,
        ),
        pytest.param(
            4,
            ["pipeline.coupling=one-way", "pipeline.wire_dtype=bfloat16"],
            marks=pytest.mark.matrix,
        ),
    ],
    ids=["1f1b", "gpipe", "one-way"],
)
def test_a_run_on_real_ranks_replays_to_the_bit(
    tmp_path: Path, ranks: int, overrides: list[str]
) -> None:
    recorded = Recorded(start_run(tmp_path, ranks, *overrides, text=JOB))
    stages = replay_in_stages(recorded, 3)
    for steps, result in stages:
        claim = StageClaim(result.states, recorded.digests(steps))
        verdict = exact_verdict(result, claim)
        assert verdict.outcome is StageOutcome.EXACT, verdict.lines()
        releases = recorded.digests(steps).get(Stream(0, "forward"), [])
        assert [*replayed_release_digests(recorded.plan, steps, recorded.rows)] == releases
    total = sum(len(result.trace.sent) for _, result in stages)
    assert total == sum(len(digests) for digests in recorded.digests(recorded.steps).values())
    weights = [
        value
        for state in stages[-1][1].states
        for name, value in sorted(state.items(), key=lambda item: _place(item[0]))
        if name.startswith("weights/")
    ]
    assert len(weights) == len(recorded.weights)
    assert all(torch.equal(a, b) for a, b in zip(weights, recorded.weights, strict=True))


def _place(name: str) -> tuple[int, str]:
    """Sort ``weights/10.bias`` behind ``weights/2.weight``."""
    number, _, rest = name.rpartition("/")[2].partition(".")
    return (int(number) if number.isdecimal() else -1, rest)

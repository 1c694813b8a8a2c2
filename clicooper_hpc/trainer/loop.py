"""A trainer's part in a run: one segment, from the first step to its delivery."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.runstore.checkpoints import rank_checkpoint_name, segment_checkpoint_name
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.prover import Prover
from clicooper_hpc.trainer.release_source import ReleaseSource
from clicooper_hpc.training.agenda import (
    EVALUATED_BYTES,
    Delivery,
    Save,
    StageEnd,
    StageStart,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.checkpoint import CheckpointWriter, Stopped
from clicooper_hpc.training.run_plan import Course, Timeouts
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.training.state import export_state, import_state
from clicooper_hpc.training.stop import StopToken
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.traffic_meter import TrafficMeter
from clicooper_hpc.transport.world import World

__all__ = ["EarlierLife", "Sources", "Trainer"]


@dataclass(frozen=True, slots=True)
class EarlierLife:
    """What an earlier life of the run left for one trainer.

    Attributes
    ----------
    step
        Steps done in the checkpoint; 0: none, from the start.
    state
        Tensors of the segment; None at step 0.
    memory
        What it holds of a stage; None at step 0 or without provenance.
    has_ledger
        Whether the owner's ledger was begun.
    heads
        Size and root of the ledger as this rank saw it.
    messages
        Rows of the table ``messages`` that stay.
    recorded
        Rows of earlier steps than this are signed already and not written again.
    """

    step: int
    state: Mapping[str, Tensor] | None
    memory: StageProgress | None
    has_ledger: bool
    heads: Sequence[tuple[int, str]]
    messages: int
    recorded: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where segment 1 takes released rows of each split from."""

    train: ReleaseSource
    validation: ReleaseSource


class Trainer:
    """Runs the events of the course that concern one segment.

    Parameters
    ----------
    sources
        For segment 1; None behind it.
    report
        Channel of the last segment to the owner; None before it.
    prover
        Proves the stages; None without provenance.
    saver
        Writes checkpoints.
    stop_line
        Tells before each step whether the run goes on.
    """

    def __init__(
        self,
        world: World,
        course: Course,
        runtime: SegmentRuntime,
        *,
        sources: Sources | None,
        report: Sender | None,
        writer: TableWriter,
        patience: Timeouts,
        prover: Prover | None,
        saver: CheckpointWriter,
        stop_line: StopToken,
    ) -> None:
        self._world = world
        self._course = course
        self._runtime = runtime
        self._sources = sources
        self._report = report
        self._writer = writer
        self._patience = patience
        self._prover = prover
        self._saver = saver
        self._stop_line = stop_line
        self._segment = world.rank - 1
        self._first = self._recorded = 0
        self._saved_s = 0.0

    def run(self, earlier: EarlierLife | None = None) -> Stopped | None:
        """Walk the agenda, behind an earlier life if there was one.

        Returns
        -------
        Stopped or None
            Of a run that was asked to stop; None at its end.
        """
        if self._prover is not None and (earlier is None or not earlier.has_ledger):
            self._prover.open()
        if earlier is not None:
            self._resume(earlier)
        state: bytes | None = None
        for event in self._course.agenda.events(self._first):
            if isinstance(event, TrainStep):
                if not self._stop_line.goes_on(event.step):
                    if self._saver.is_due(event.step):
                        self._save(event.step)
                    return self._saver.stopped(event.step)
                self._train(event)
            elif isinstance(event, ValidationStep):
                self._validate(event)
            elif isinstance(event, Delivery):
                self._deliver(event)
            elif isinstance(event, Save):
                if self._saver.is_due(event.step):
                    state = self._save(event.step)
                continue
            elif self._prover is not None:
                self._prove(event, self._prover, state)
            state = None
        return None

    def _resume(self, earlier: EarlierLife) -> None:
        if self._prover is not None and earlier.has_ledger:
            agenda, stage = self._course.agenda, None
            if earlier.step:
                number = agenda.stage_of(earlier.step - 1)
                stage = StageStart(number, *agenda.bounds[number : number + 2])
            self._prover.resume(
                stage, earlier.memory, heads=earlier.heads, messages=earlier.messages
            )
        if earlier.state is not None:
            import_state(self._runtime, earlier.state, where=f"checkpoint of step {earlier.step}")
        self._saver.resumed(earlier.step, earlier.recorded)
        self._first, self._recorded = earlier.step, earlier.recorded
        if self._sources is not None:
            for refill in self._course.refill(earlier.step):
                source = self._sources.train
                if refill.split == "validation":
                    source = self._sources.validation
                source.receive(refill.step, 0, refill.ids[:, np.newaxis], from_owner=True)

    def _save(self, step: int) -> bytes:
        """Save the state of the segment, and return it."""
        start = time.perf_counter()
        state = pack_safetensors(export_state(self._runtime), {})
        files = {segment_checkpoint_name(self._world.rank): state}
        if self._prover is not None:
            files[rank_checkpoint_name(self._world.rank)] = pack_safetensors(
                *self._prover.memory().pack()
            )
        self._writer.sync()
        self._saver.save(step, files)
        self._saved_s += time.perf_counter() - start
        return state

    def _prove(self, event: StageStart | StageEnd, prover: Prover, state: bytes | None) -> None:
        if isinstance(event, StageStart):
            prover.start_stage(event)
        else:
            prover.prove_stage(event, state, saved_s=self._saved_s)
            self._saved_s = 0.0

    def _train(self, event: TrainStep) -> None:
        meter = TrafficMeter(self._world)
        start = time.perf_counter()
        parts = self._course.parts(len(event.batch.sub_labels))
        device = self._runtime.segment.device
        targets = [
            torch.from_numpy(event.batch.sub_labels[part.start : part.stop].astype(np.int64)).to(
                device
            )
            for part in parts
        ]
        rate = self._course.rate(event.step)
        report = self._runtime.train_step(
            event.step,
            self._course.lane(self._segment, len(parts)),
            released=self._released(event.step, event.batch.ids, parts, event.from_owner),
            targets=targets,
            batch_rows=len(event.batch.sub_labels),
            learning_rate=rate,
        )
        self._check_finite(event, report)
        if event.step == self._first:
            self._world.set_deadline(self._patience.in_turn(self._world.rank, self._world.size))
        rows = len(event.batch.sub_labels)
        if self._prover is not None:
            self._prover.count_samples(event.batch.ids.size)
        if self._report is not None:
            values = [report.loss, report.correct / rows, rate, float(self._stop_line.requested)]
            self._report.send(
                torch.tensor(values, dtype=torch.float64), Kind.METRICS, event.step, 0
            )
        if event.step >= self._recorded:
            self._record(event, report, rate, step_s=time.perf_counter() - start, meter=meter)

    def _record(
        self,
        event: TrainStep,
        report: StepReport,
        rate: float,
        *,
        step_s: float,
        meter: TrafficMeter,
    ) -> None:
        rows = len(event.batch.sub_labels)
        compute_s = report.forward_s + report.backward_s + report.optimizer_s
        self._writer.append(
            "steps",
            {
                "step": event.step,
                "epoch": event.epoch,
                "compute_s": compute_s,
                "forward_s": report.forward_s,
                "backward_s": report.backward_s,
                "optimizer_s": report.optimizer_s,
                "step_s": step_s,
                "rows": rows,
                **meter.read_traffic(),
            },
        )
        self._writer.append(
            "training",
            {
                "step": event.step,
                "loss": report.loss if report.scored else float("nan"),
                "learning_rate": rate,
                "gradient_norm": report.gradient_norm,
                "sub_label_accuracy": report.correct / rows if report.scored else float("nan"),
            },
        )

    def _validate(self, event: ValidationStep) -> None:
        parts = self._course.parts(len(event.ids))
        ids = event.ids[:, np.newaxis]
        outputs = self._runtime.infer_step(
            event.step,
            len(parts),
            released=self._released(event.step, ids, parts, event.from_owner, validation=True),
        )
        if self._report is not None:
            for micro_batch, logits in enumerate(outputs):
                self._report.send(logits, Kind.LOGITS, event.step, micro_batch)

    def _deliver(self, event: Delivery) -> None:
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in self._runtime.segment.layers.state_dict().items()
        }
        self._writer.flush()
        self._world.send_blob(
            0, save(state), kind=Kind.SEGMENT, step=event.step, deadline_s=self._patience.slow_s
        )
        # The owner has one core and may evaluate for long: nobody's patience for a message of a
        # step may run out meanwhile.
        self._world.broadcast_bytes(
            None, limit_bytes=EVALUATED_BYTES, deadline_s=self._patience.slow_s
        )
        if event.final and self._prover is not None:
            self._prover.cosign_ledger()

    def _released(
        self,
        step: int,
        ids: NDArray[np.int64],
        parts: tuple[range, ...],
        from_owner: bool,
        *,
        validation: bool = False,
    ) -> Callable[[int], Tensor] | None:
        if self._sources is None:
            return None
        source = self._sources.validation if validation else self._sources.train

        def rows(micro_batch: int) -> Tensor:
            part = parts[micro_batch]
            return source.receive(
                step, micro_batch, ids[part.start : part.stop], from_owner=from_owner
            )

        return rows

    def _check_finite(self, event: TrainStep, report: StepReport) -> None:
        if report.scored and not np.isfinite(report.loss):
            raise ClicooperError(
                f"the loss is {report.loss}",
                where=f"step {event.step}, epoch {event.epoch}",
                remedy="Lower training.learning_rate, or set training.clip_norm",
            )

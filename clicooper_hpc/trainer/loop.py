"""A trainer's role in a run: one segment, from the first step to its delivery."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.runstore.checkpoints import rank_checkpoint_name, segment_checkpoint_name
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.trainer.proof_exchange import DisputedHandoffError
from clicooper_hpc.trainer.prover import Prover
from clicooper_hpc.trainer.release_source import ReleaseSource
from clicooper_hpc.training.checkpoint_writer import Stopped
from clicooper_hpc.training.events import (
    DeliveryEvent,
    SaveEvent,
    StageEnd,
    StageStart,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.rank_services import EVALUATED_BYTES, RankServices
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.segment_state import (
    check_state_finite,
    export_segment_state,
    import_segment_state,
)
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.traffic_meter import TrafficMeter

__all__ = ["ReleaseSources", "Trainer"]


@dataclass(frozen=True, slots=True)
class ReleaseSources:
    """Where segment 1 takes released rows of each split from."""

    train: ReleaseSource
    validation: ReleaseSource


class Trainer:
    """Carries out the events of the plan that concern one segment.

    Parameters
    ----------
    sources
        For segment 1; None behind it.
    report
        Channel of the last segment to the owner; None before it.
    prover
        Proves the stages; None without provenance.
    """

    def __init__(
        self,
        services: RankServices,
        runtime: SegmentRuntime,
        *,
        sources: ReleaseSources | None,
        report: Sender | None,
        prover: Prover | None,
    ) -> None:
        self._world = services.world
        self._plan = services.plan
        self._services = services
        self._writer = services.writer
        self._checkpoints = services.checkpoints
        self._runtime = runtime
        self._sources = sources
        self._report = report
        self._prover = prover
        # 0-based, as lanes and layouts count.
        self._segment = self._world.rank - 1
        self._first = self._recorded = 0
        self._saved_s = 0.0

    def run_trainer(self, point: RestartPoint) -> Stopped | None:
        """Carry out the plan from ``point`` on.

        Returns
        -------
        Stopped or None
            Of a run that was asked to stop; None at its end.
        """
        # Before the state is restored: the initial weights are still there, to be compared with
        # those the owner's run statement names.
        if self._prover is not None:
            self._prover.begin(point)
        self._restore_trainer(point)
        state: bytes | None = None
        for event in self._plan.planned_events(point.step):
            if isinstance(event, TrainStep):
                if not self._services.stop_token.pass_stop_token(event.step):
                    if self._checkpoints.is_checkpoint_due(event.step):
                        self._save_segment(event.step)
                    return self._checkpoints.stopped_after(event.step)
                self._train_step(event)
            elif isinstance(event, ValidationStep):
                self._infer_validation(event)
            elif isinstance(event, DeliveryEvent):
                self._deliver_segment(event)
            elif isinstance(event, SaveEvent):
                # A stage is proved right after it is saved, of the same state: it is kept, for to
                # export and pack it a second time would take as long again.
                if self._checkpoints.is_checkpoint_due(event.step):
                    state = self._save_segment(event.step)
                continue
            elif self._prover is not None:
                self._prove_stage(event, self._prover, state)
            state = None
        return None

    def _restore_trainer(self, point: RestartPoint) -> None:
        """Bring this rank to ``point``; at the start nothing changes."""
        if point.state is not None:
            where = f"checkpoint of step {point.step}"
            import_segment_state(self._runtime, point.state, where=where)
        self._checkpoints.restart_after(point.step, point.proved_step)
        # Rows of proved stages are signed: when such steps are trained again, nothing is written.
        self._first, self._recorded = point.step, point.proved_step
        if self._sources is not None:
            for resend in self._plan.planned_resends(point.step):
                source = self._sources.train
                if resend.split == "validation":
                    source = self._sources.validation
                source.receive(resend.step, 0, resend.ids[:, np.newaxis], from_owner=True)

    def _save_segment(self, step: int) -> bytes:
        """Save the state of the segment, and return it."""
        start = time.perf_counter()
        tensors = export_segment_state(self._runtime)
        check_state_finite(tensors, step=step)
        state = pack_safetensors(tensors, {})
        files = {segment_checkpoint_name(self._world.rank): state}
        if self._prover is not None:
            progress = self._prover.stage_progress()
            files[rank_checkpoint_name(self._world.rank)] = pack_safetensors(
                *progress.pack_progress()
            )
        # The rows must be on disk before the checkpoint that counts on them: one whose rows were
        # lost is of no use.
        self._writer.sync()
        self._checkpoints.save_checkpoint(step, files)
        self._saved_s += time.perf_counter() - start
        return state

    def _prove_stage(
        self, event: StageStart | StageEnd, prover: Prover, state: bytes | None
    ) -> None:
        if isinstance(event, StageStart):
            prover.start_stage(event)
        else:
            try:
                prover.prove_stage(event, state, saved_s=self._saved_s)
            except DisputedHandoffError:
                # No restart could prove this stage from its end: what it was trained on is in
                # dispute, and in the digests the checkpoint holds. It has to be trained again.
                self._checkpoints.forget_after(event.first)
                raise
            self._saved_s = 0.0

    def _train_step(self, event: TrainStep) -> None:
        meter = TrafficMeter(self._world)
        start = time.perf_counter()
        parts = self._plan.planned_micro_batches(len(event.batch.sub_labels))
        device = self._runtime.segment.device
        targets = [
            torch.from_numpy(event.batch.sub_labels[part.start : part.stop].astype(np.int64)).to(
                device
            )
            for part in parts
        ]
        rate = self._plan.planned_rate(event.step)
        report = self._runtime.train_step(
            event.step,
            self._plan.planned_lane(self._segment, len(parts)),
            released=self._released_rows(event.step, event.batch.ids, parts, event.from_owner),
            targets=targets,
            batch_rows=len(event.batch.sub_labels),
            learning_rate=rate,
        )
        if event.step == self._first:
            # Only now: in the first step libraries load and kernels are chosen.
            self._services.tighten_deadline()
        rows = len(event.batch.sub_labels)
        if self._prover is not None:
            self._prover.count_samples(event.batch.ids.size)
        if self._report is not None:
            values = [
                report.loss,
                report.correct / rows,
                rate,
                float(self._services.stop_token.requested),
            ]
            self._report.send(
                torch.tensor(values, dtype=torch.float64), Kind.METRICS, event.step, 0
            )
        # Signed rows hold times and would not be the same a second time.
        if event.step >= self._recorded:
            self._record_step(event, report, rate, step_s=time.perf_counter() - start, meter=meter)

    def _record_step(
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
                # Only a segment with a loss of its own knows one.
                "loss": report.loss if report.scored else float("nan"),
                "learning_rate": rate,
                "gradient_norm": report.gradient_norm,
                "sub_label_accuracy": report.correct / rows if report.scored else float("nan"),
            },
        )

    def _infer_validation(self, event: ValidationStep) -> None:
        parts = self._plan.planned_micro_batches(len(event.ids))
        ids = event.ids[:, np.newaxis]
        outputs = self._runtime.infer_step(
            event.step,
            [len(part) for part in parts],
            released=self._released_rows(event.step, ids, parts, event.from_owner, validation=True),
        )
        if self._report is not None:
            # Logits, not classes: the owner alone can map sub-labels to classes.
            for micro_batch, logits in enumerate(outputs):
                self._report.send(logits, Kind.LOGITS, event.step, micro_batch)

    def _deliver_segment(self, event: DeliveryEvent) -> None:
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in self._runtime.segment.layers.state_dict().items()
        }
        # The owner would name this rank as one that lies.
        check_state_finite(state, step=event.step)
        wait_s = self._services.timeouts.slow_s
        self._writer.flush()
        self._world.send_blob(0, save(state), kind=Kind.SEGMENT, step=event.step, deadline_s=wait_s)
        # The owner has one core and may evaluate for long: the deadline of a step's message must
        # not run meanwhile.
        self._world.broadcast_bytes(None, limit_bytes=EVALUATED_BYTES, deadline_s=wait_s)
        if event.final and self._prover is not None:
            self._prover.cosign_ledger()

    def _released_rows(
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

"""The owner's role in a run: release rows, receive reports and deliveries, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest
from clicooper_hpc.owner.composed_model import ComposedModel
from clicooper_hpc.owner.evaluation import CleanEvaluation, Score
from clicooper_hpc.owner.log_operator import LogOperator
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.owner.report_check import check_report
from clicooper_hpc.runstore.checkpoints import rank_checkpoint_name
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.signed_digests import owner_tables_digest
from clicooper_hpc.training.checkpoint_writer import Stopped
from clicooper_hpc.training.events import (
    DeliveryEvent,
    Event,
    Resend,
    SaveEvent,
    StageEnd,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.rank_services import EVALUATED_BYTES, RankServices
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.training.stop_token import TOKEN_SLOTS
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.traffic_meter import TrafficMeter

__all__ = ["Conclusion", "Owner", "OwnerLinks", "ReportedStep"]


@dataclass(frozen=True, slots=True)
class OwnerLinks:
    """The owner's two channels: rows to trainer 1, reports from the last trainer."""

    release: Sender
    report: Receiver


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run ends with: its figures, and the digest of all the index will say."""

    results: dict[str, float]
    seal: Digest


@dataclass(frozen=True, slots=True)
class ReportedStep:
    """What the last trainer reported of one step."""

    step: int
    epoch: int
    loss: float
    sub_label_accuracy: float
    rows: int


class Owner:
    """Carries out the events of the plan that concern rank 0.

    Parameters
    ----------
    model
        Takes the delivered segments, and scores them.
    on_step
        Called once per finished step, for progress.
    conclude
        Called once after the last delivery, with the scores on clean and on released rows and the
        tensor roots (hex) of the delivered segments.
    log_operator
        Keeps the ledger; None without provenance.
    """

    def __init__(
        self,
        services: RankServices,
        *,
        links: OwnerLinks,
        gate: ReleaseGate,
        model: ComposedModel,
        on_step: Callable[[ReportedStep], None],
        conclude: Callable[[CleanEvaluation, Score, Sequence[str]], Conclusion],
        log_operator: LogOperator | None,
    ) -> None:
        self._world = services.world
        self._plan = services.plan
        self._services = services
        self._writer = services.writer
        self._checkpoints = services.checkpoints
        self._links = links
        self._gate = gate
        self._model = model
        self._on_step = on_step
        self._conclude = conclude
        self._log_operator = log_operator
        #: Steps whose report has not come yet, oldest first.
        self._unreported: list[TrainStep] = []
        self._first = 0
        self._stop_reported = False

    def run_owner(self, point: RestartPoint) -> Stopped | None:
        """Carry out the plan from ``point`` on.

        Returns
        -------
        Stopped or None
            Of a run that was asked to stop; None at its end.
        """
        # The ledger first: a run statement, or at a restart a ledger, that trainers refuse must end
        # the run before a row leaves.
        if self._log_operator is not None:
            self._log_operator.begin(point)
        self._restore_owner(point)
        for event in self._plan.planned_events(point.step):
            if isinstance(event, TrainStep):
                continues = self._services.stop_token.pass_stop_token(
                    event.step, reported=self._stop_reported
                )
                # All reports first: with none under way the state of every rank is that of one
                # step.
                if not continues:
                    self._take_reports(wait=True)
                    if self._checkpoints.is_checkpoint_due(event.step):
                        self._save_owner(event.step)
                    return self._checkpoints.stopped_after(event.step)
                self._release_step(event)
            else:
                self._take_reports(wait=True)
                self._handle_event(event)
        return None

    def _handle_event(self, event: Event) -> None:
        """Do what happens when all steps so far are done."""
        if isinstance(event, ValidationStep):
            self._release_validation(event)
        elif isinstance(event, DeliveryEvent):
            self._take_delivery(event)
        # Due or not is the same on every rank, so none waits for one that does not save.
        elif isinstance(event, SaveEvent):
            if self._checkpoints.is_checkpoint_due(event.step):
                self._save_owner(event.step)
        elif isinstance(event, StageEnd) and self._log_operator is not None:
            self._log_operator.log_stage(event)

    def _restore_owner(self, point: RestartPoint) -> None:
        """Bring this rank to ``point``; at the start there is nothing to list or to send again."""
        self._checkpoints.restart_after(point.step, point.proved_step)
        self._first = point.step
        for split, ids in self._plan.planned_samples_sent(point.step).items():
            self._gate.note_tabled_release(split, ids)
        # Trainer 1's cache is in no checkpoint, so that its disk holds no second copy of the
        # release: the owner makes the same bits again.
        resends = self._plan.planned_resends(point.step)
        for split, parts in groupby(resends, key=lambda one: one.split):
            mine, several = list(parts), self._plan.micro_batches
            for start in range(0, len(mine), several):
                self._resend_rows(split, mine[start : start + several])

    def _resend_rows(self, split: str, resends: Sequence[Resend]) -> None:
        """Send the very bits that left before: the gate compares them with their receipts.

        Several messages at once, for the front works in blocks of a fixed size.
        """
        rows, _ = self._gate.release(split, np.concatenate([resend.ids for resend in resends]))
        first = 0
        for resend in resends:
            part = rows[first : first + len(resend.ids)]
            self._links.release.send(part, Kind.RELEASE, resend.step, 0)
            first += len(resend.ids)

    def _save_owner(self, step: int) -> None:
        progress = StageProgress(0, {})
        if self._log_operator is not None:
            progress = self._log_operator.stage_progress()
        # Rows and receipts before the checkpoint that counts on them.
        self._writer.sync()
        self._gate.keep_receipts()
        self._checkpoints.save_checkpoint(
            step, {rank_checkpoint_name(0): pack_safetensors(*progress.pack_progress())}
        )

    def _release_step(self, event: TrainStep) -> None:
        meter = TrafficMeter(self._world)
        start = time.perf_counter()
        forward_s = 0.0
        parts = self._plan.planned_micro_batches(len(event.batch.sub_labels))
        if event.from_owner:
            batches = [event.batch.ids[part.start : part.stop].reshape(-1) for part in parts]
            # Already flat: groups of averaged samples travel as single rows, which trainer 1
            # averages.
            forward_s = self._send("train", event.step, batches)
        self._unreported.append(event)
        if self._log_operator is not None:
            self._log_operator.count_samples(event.batch.ids.size)
        # What has come only: while trainers work on this step the owner makes the rows of the next.
        self._take_reports(wait=False)
        # A request to stop travels back with a report: the further the owner is ahead of the last
        # one, the later it is followed.
        while len(self._unreported) >= TOKEN_SLOTS:
            self._take_report()
        if self._is_closed:
            return
        self._writer.append(
            "steps",
            {
                "step": event.step,
                "epoch": event.epoch,
                "compute_s": forward_s,
                "forward_s": forward_s,
                "backward_s": 0.0,
                "optimizer_s": 0.0,
                "step_s": time.perf_counter() - start,
                "rows": len(event.batch.ids.reshape(-1)) if event.from_owner else 0,
                **meter.read_traffic(),
            },
        )

    def _send(self, split: str, step: int, batches: list[NDArray[np.int64]]) -> float:
        """Release one step's micro-batches; return the seconds spent computing.

        The front works in blocks of a fixed size, so all rows of a step are made at once.
        """
        start = time.perf_counter()
        whole = np.concatenate(batches)
        rows, _ = self._gate.release(split, whole)
        compute_s = time.perf_counter() - start
        first = 0
        for micro_batch, ids in enumerate(batches):
            part = rows[first : first + len(ids)]
            self._links.release.send(part, Kind.RELEASE, step, micro_batch)
            first += len(ids)
        if not self._is_closed:
            # After the send, so the table never speaks of more than left.
            self._writer.append("releases", self._gate.table_release(split, step, whole))
        return compute_s

    def _take_reports(self, *, wait: bool) -> None:
        """Take reports of finished steps: those that have come, or (``wait``) all that are due."""
        while self._unreported and (wait or self._links.report.ready()):
            self._take_report()

    def _take_report(self) -> None:
        """Take the report of the oldest step without one."""
        event = self._unreported.pop(0)
        message = self._links.report.receive(
            Kind.METRICS, event.step, 0, dtype=torch.float64, shape=(4,)
        )
        values = message.tensor.tolist()
        self._links.report.recycle(message)
        check_report(
            values,
            step=event.step,
            rate=self._plan.planned_rate(event.step),
            sender=self._links.report.sender,
        )
        loss, accuracy, _, stop_asked = values
        self._stop_reported = self._stop_reported or bool(stop_asked)
        rows = len(event.batch.ids.reshape(-1))
        # The first report shows that every rank has loaded its libraries and done a step.
        if event.step == self._first:
            self._services.tighten_deadline()
        self._on_step(ReportedStep(event.step, event.epoch, loss, accuracy, rows))

    def _release_validation(self, event: ValidationStep) -> None:
        parts = self._plan.planned_micro_batches(len(event.ids))
        batches = [event.ids[part.start : part.stop] for part in parts]
        if event.from_owner:
            self._send("validation", event.step, batches)
        for micro_batch, ids in enumerate(batches):
            message = self._links.report.receive(
                Kind.LOGITS,
                event.step,
                micro_batch,
                dtype=torch.float32,
                shape=(len(ids), self._model.num_logits),
            )
            classes = self._gate.true_classes("validation", ids)
            self._model.add_released_logits(message.tensor, classes)
            self._links.report.recycle(message)

    def _take_delivery(self, event: DeliveryEvent) -> None:
        wait_s = self._services.timeouts.slow_s
        roots = self._model.receive_delivery(self._world, event.step, wait_s)
        evaluated = self._model.score_held_out()
        clean = evaluated.scores
        released = self._model.score_released()
        if not self._is_closed:
            self._writer.append(
                "evaluation",
                {
                    "epoch": event.epoch,
                    "step": event.step,
                    "clean_accuracy": clean.model.accuracy,
                    "clean_loss": clean.model.loss,
                    "released_accuracy": released.accuracy,
                    "released_loss": released.loss,
                    "samples": clean.model.samples,
                },
            )
        self._writer.flush()
        self._gate.keep_receipts()
        # Trainers wait for this, with the long limit of an evaluation.
        self._world.broadcast_bytes(b"evaluated", limit_bytes=EVALUATED_BYTES, deadline_s=wait_s)
        if event.final:
            conclusion = self._conclude(evaluated, released, roots)
            if self._log_operator is not None:
                # Taken last: the seal covers every row, and none may follow what is signed.
                tables = owner_tables_digest(self._writer.take_digest(), conclusion.seal)
                self._log_operator.log_delivery(roots, conclusion.results, tables.hex)

    @property
    def _is_closed(self) -> bool:
        """Whether the results were signed before a restart, so that no figure may be added."""
        return self._log_operator is not None and self._log_operator.is_closed

"""The owner's part in a run: release, listen, take delivery, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.digests import Digest
from clicooper_hpc.owner.delivery import accept_delivery, delivery_size_limit
from clicooper_hpc.owner.evaluation import (
    CleanScores,
    HeldOutSamples,
    Score,
    evaluate_clean,
    evaluate_logits,
    evaluate_probabilities,
)
from clicooper_hpc.owner.log_operator import LogOperator
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.checkpoints import rank_checkpoint_name
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.signed_digests import owner_tables_digest
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.agenda import (
    EVALUATED_BYTES,
    Delivery,
    Event,
    Resend,
    Save,
    StageEnd,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.checkpoint import CheckpointWriter, Stopped
from clicooper_hpc.training.run_plan import Course, Timeouts
from clicooper_hpc.training.stage_progress import StageProgress
from clicooper_hpc.training.stop import WORD_SLOTS, StopToken
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.traffic_meter import TrafficMeter
from clicooper_hpc.transport.world import World

__all__ = ["Conclusion", "EarlierRun", "Owner", "OwnerLinks", "StepNews"]


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
class StepNews:
    """What the last trainer reported of one step."""

    step: int
    epoch: int
    loss: float
    sub_label_accuracy: float
    rows: int


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """What an earlier life of the run left for the owner.

    Attributes
    ----------
    step
        Steps done in the checkpoint; 0: none, from the start.
    memory
        What it holds of a stage; None at step 0 or without provenance.
    entries, noted
        Standing entries of the ledger, and the number of signed checkpoints stored with them.
    proved
        First step that is not proved yet.
    """

    step: int
    memory: StageProgress | None
    entries: Sequence[bytes]
    noted: int
    proved: int


@dataclass(slots=True)
class _Open:
    """Steps whose report has not come yet, oldest first."""

    events: list[TrainStep] = field(default_factory=list)


class Owner:
    """Runs the events of the course that concern rank 0.

    Parameters
    ----------
    temperature
        Of the class scores the front ends in, if it does; see `evaluate_clean`.
    model
        The whole network; delivered segments replace its weights.
    folder
        Where delivered segments are kept.
    news
        Called once per finished step, for progress.
    conclude
        Called once after the last delivery, with the scores on clean and on released rows and the
        tensor roots (hex) of the delivered segments.
    registrar
        Keeps the ledger; None without provenance.
    saver
        Writes checkpoints.
    stop_line
        Tells all, before each step, whether the run goes on.
    """

    def __init__(
        self,
        world: World,
        course: Course,
        *,
        links: OwnerLinks,
        gate: ReleaseGate,
        held_out: HeldOutSamples,
        temperature: float | None,
        label_map: LabelMap,
        model: nn.Sequential,
        layout: Layout,
        writer: TableWriter,
        folder: Path,
        patience: Timeouts,
        news: Callable[[StepNews], None],
        conclude: Callable[[CleanScores, Score, Sequence[str]], Conclusion],
        registrar: LogOperator | None,
        saver: CheckpointWriter,
        stop_line: StopToken,
    ) -> None:
        self._world = world
        self._course = course
        self._links = links
        self._gate = gate
        self._held_out = held_out
        self._temperature = temperature
        self._label_map = label_map
        self._model = model
        self._layout = layout
        self._writer = writer
        self._folder = folder
        self._patience = patience
        self._news = news
        self._conclude = conclude
        self._registrar = registrar
        self._saver = saver
        self._stop_line = stop_line
        self._open = _Open()
        self._released: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []
        self._first = 0
        self._asked = False

    def run(self, earlier: EarlierRun | None = None) -> Stopped | None:
        """Walk the agenda, behind an earlier life of the run if there was one.

        Returns
        -------
        Stopped or None
            Of a run that was asked to stop; None at its end.
        """
        if self._registrar is not None and (earlier is None or not earlier.entries):
            self._registrar.open()
        if earlier is not None:
            self._resume(earlier)
        for event in self._course.agenda.events(self._first):
            if isinstance(event, TrainStep):
                if not self._stop_line.goes_on(event.step, reported=self._asked):
                    self._listen(wait=True)
                    if self._saver.is_due(event.step):
                        self._save(event.step)
                    return self._saver.stopped(event.step)
                self._train(event)
            else:
                self._listen(wait=True)
                self._between(event)
        return None

    def _between(self, event: Event) -> None:
        """Do what happens when all steps so far are done."""
        if isinstance(event, ValidationStep):
            self._validate(event)
        elif isinstance(event, Delivery):
            self._take_delivery(event)
        elif isinstance(event, Save):
            if self._saver.is_due(event.step):
                self._save(event.step)
        elif isinstance(event, StageEnd) and self._registrar is not None:
            self._registrar.log_stage(event)

    def _resume(self, earlier: EarlierRun) -> None:
        if self._registrar is not None and earlier.entries:
            self._registrar.resume(earlier.entries, earlier.noted, earlier.memory)
        self._saver.resumed(earlier.step, earlier.proved)
        self._first = earlier.step
        for split, ids in self._course.agenda.sent_before(earlier.step).items():
            self._gate.note_tabled_release(split, ids)
        for split, refills in groupby(self._course.refill(earlier.step), key=lambda one: one.split):
            mine, several = list(refills), self._course.micro_batches
            for start in range(0, len(mine), several):
                self._send_again(split, mine[start : start + several])

    def _send_again(self, split: str, refills: Sequence[Resend]) -> None:
        """Send the very bits that left before: the gate compares them with their receipts.

        Several messages at once, for the front works in blocks of a fixed size.
        """
        rows, _ = self._gate.release(split, np.concatenate([refill.ids for refill in refills]))
        first = 0
        for refill in refills:
            part = rows[first : first + len(refill.ids)]
            self._links.release.send(part, Kind.RELEASE, refill.step, 0)
            first += len(refill.ids)

    def _save(self, step: int) -> None:
        memory = StageProgress(0, {}) if self._registrar is None else self._registrar.memory()
        self._writer.sync()
        self._gate.keep_receipts()
        self._saver.save(step, {rank_checkpoint_name(0): pack_safetensors(*memory.pack())})

    def _train(self, event: TrainStep) -> None:
        meter = TrafficMeter(self._world)
        start = time.perf_counter()
        forward_s = 0.0
        parts = self._course.parts(len(event.batch.sub_labels))
        if event.from_owner:
            batches = [event.batch.ids[part.start : part.stop].reshape(-1) for part in parts]
            forward_s = self._send("train", event.step, batches)
        self._open.events.append(event)
        if self._registrar is not None:
            self._registrar.count_samples(event.batch.ids.size)
        self._listen(wait=False)
        while len(self._open.events) >= WORD_SLOTS:
            self._listen_once()
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
            self._writer.append("releases", self._gate.table_release(split, step, whole))
        return compute_s

    def _listen(self, *, wait: bool) -> None:
        """Take reports of finished steps: those that are here, or (``wait``) all open ones."""
        while self._open.events and (wait or self._links.report.ready()):
            self._listen_once()

    def _listen_once(self) -> None:
        """Take the report of the oldest open step."""
        event = self._open.events.pop(0)
        message = self._links.report.receive(
            Kind.METRICS, event.step, 0, dtype=torch.float64, shape=(4,)
        )
        loss, accuracy, _, asked = message.tensor.tolist()
        self._links.report.recycle(message)
        self._asked = self._asked or bool(asked)
        rows = len(event.batch.ids.reshape(-1))
        if event.step == self._first:
            self._world.set_deadline(self._patience.in_turn(self._world.rank, self._world.size))
        self._news(StepNews(event.step, event.epoch, loss, accuracy, rows))

    def _validate(self, event: ValidationStep) -> None:
        parts = self._course.parts(len(event.ids))
        batches = [event.ids[part.start : part.stop] for part in parts]
        if event.from_owner:
            self._send("validation", event.step, batches)
        for micro_batch, ids in enumerate(batches):
            message = self._links.report.receive(
                Kind.LOGITS,
                event.step,
                micro_batch,
                dtype=torch.float32,
                shape=(len(ids), self._layout.shapes[-1][0]),
            )
            probabilities = evaluate_logits(message.tensor, self._label_map)
            self._links.report.recycle(message)
            self._released.append((probabilities, self._gate.true_classes("validation", ids)))

    def _take_delivery(self, event: Delivery) -> None:
        roots: list[str] = []
        for number in range(1, len(self._layout.segments) + 1):
            layers = self._layout.layers_of(self._model, number - 1)
            content = self._world.receive_blob(
                number,
                kind=Kind.SEGMENT,
                step=event.step,
                limit_bytes=delivery_size_limit(layers),
                deadline_s=self._patience.slow_s,
            )
            accept_delivery(bytes(content), layers, number, self._folder)
            roots.append(digest_tensors(content).hex)
        clean = evaluate_clean(
            self._model,
            self._held_out.clean_batches(),
            self._label_map,
            temperature=self._temperature,
        )
        released = self._released_score()
        self._released.clear()
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
        self._world.broadcast_bytes(
            b"evaluated", limit_bytes=EVALUATED_BYTES, deadline_s=self._patience.slow_s
        )
        if event.final:
            ending = self._conclude(clean, released, roots)
            if self._registrar is not None:
                tables = owner_tables_digest(self._writer.take_digest(), ending.seal)
                self._registrar.log_delivery(roots, ending.results, tables.hex)

    @property
    def _is_closed(self) -> bool:
        """Whether an earlier life signed its results, so that no figure may be added."""
        return self._registrar is not None and self._registrar.is_closed

    def _released_score(self) -> Score:
        if not self._released:
            return Score(float("nan"), float("nan"), 0)
        return evaluate_probabilities(
            np.concatenate([part[0] for part in self._released]),
            np.concatenate([part[1] for part in self._released]),
        )

"""Runs one segment's lane of a schedule: receive, compute, send.

    lane of segment i, one micro-batch m
    (1) x  <- segment i-1 (or the released rows, for segment 1)
    (2) y  =  layers(x)
    (3) y  -> segment i+1            or, at the end of the chain, loss(y)
    (4) dy <- segment i+1            coupling "backprop" only
    (5) dx =  backward(dy)
    (6) dx -> segment i-1            "backprop" only, and never to the owner
After the last micro-batch: clip (a running sum of squared norms travels down the chain and the
total back up), then the optimizer step. The numbers are cited in the code.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clicooper_hpc.errors import ClicooperError, DivergedError, PeerError
from clicooper_hpc.pipeline.divergence import describe_divergence
from clicooper_hpc.pipeline.given_gradient import backward_from_gradient
from clicooper_hpc.pipeline.optim import (
    SegmentOptimizer,
    scale_gradients,
    squared_gradient_norm,
)
from clicooper_hpc.pipeline.schedule import Action, Op
from clicooper_hpc.pipeline.segment import Segment, segment_loss
from clicooper_hpc.transport.channel import Inbound, Message, Outbound
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["Edges", "SegmentRuntime", "StepReport", "StepSettings"]

_WIRE = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Edges:
    """Channels of one segment to its neighbours; None where there is no neighbour."""

    activation_in: Inbound | None = None
    activation_out: Outbound | None = None
    gradient_in: Inbound | None = None
    gradient_out: Outbound | None = None


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What stays the same in every step of a run."""

    label_smoothing: float
    clip_norm: float | None
    precision: str
    wire_dtype: str


@dataclass(slots=True)
class StepReport:
    """What one segment did in one step. Times in seconds.

    ``loss`` means something only if ``scored``: other segments compute none.
    """

    forward_s: float = 0.0
    backward_s: float = 0.0
    optimizer_s: float = 0.0
    loss: float = 0.0
    scored: bool = False
    correct: int = 0
    gradient_norm: float = float("nan")


@dataclass(slots=True)
class _Live:
    """A micro-batch between its forward and its backward."""

    rows: Tensor
    output: Tensor
    loss: Tensor | None
    message: Message | None = field(default=None)


class SegmentRuntime:
    """One segment with its optimizer, its channels and, where it has one, its loss.

    Parameters
    ----------
    input_shape
        Shape of one row entering the segment; a neighbour that sends another is refused.
    head
        Local head of a one-way segment that is not the last; None otherwise.
    is_last
        Whether the segment ends the chain: its output is the logits over sub-labels.
    optimizer
        None for a segment without parameters.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        input_shape: tuple[int, ...],
        edges: Edges,
        settings: StepSettings,
        is_last: bool,
        head: nn.Module | None,
        optimizer: SegmentOptimizer | None,
    ) -> None:
        self.segment = segment
        self.input_shape = input_shape
        self.edges = edges
        self.settings = settings
        self.is_last = is_last
        self.head = head
        self.optimizer = optimizer
        modules = [segment, head] if head is not None else [segment]
        self.parameters = [p for module in modules for p in module.parameters()]
        #: Called with the step after each update of the weights, and may change them: marks.
        self.after_update: Callable[[int], None] | None = None
        self._live: dict[int, _Live] = {}

    def train_step(
        self,
        step: int,
        lane: Sequence[Op],
        *,
        released: Callable[[int], Tensor] | None,
        targets: Sequence[Tensor],
        batch_rows: int,
        learning_rate: float,
    ) -> StepReport:
        """Run one lane and update the weights.

        ``released(m)`` gives segment 1 its input for micro-batch m; other segments receive theirs.
        ``targets[m]`` are the sub-labels (int64, on the segment's device) of micro-batch m.
        """
        report = StepReport()
        # Set in every step: an evaluation between two steps leaves the segment in its own mode.
        self.segment.train()
        if self.optimizer is not None:
            self.optimizer.clear_gradients()
        for op in lane:
            if op.action is Action.FORWARD:
                self._forward(step, op.micro_batch, released, targets, batch_rows, report)
            else:
                self._backward(step, op.micro_batch, report)
        start = time.perf_counter()
        self._update(step, learning_rate, report)
        # Marks change weights, so they come after the optimizer and before anybody saves.
        if self.after_update is not None:
            self.after_update(step)
        report.optimizer_s = time.perf_counter() - start
        return report

    @torch.no_grad()
    def infer_step(
        self, step: int, row_counts: Sequence[int], *, released: Callable[[int], Tensor] | None
    ) -> list[Tensor]:
        """Forward only, in evaluation mode; the last segment returns its logits.

        ``row_counts[m]`` are the rows of micro-batch m.
        """
        self.segment.eval()
        outputs = []
        for micro_batch, count in enumerate(row_counts):
            rows, message = self._input(step, micro_batch, released, count)  # (1)
            output = self.segment(rows, step=step, micro_batch=micro_batch)  # (2)
            self._send(self.edges.activation_out, Kind.ACTIVATION, step, micro_batch, output)  # (3)
            self._recycle(message)
            if self.is_last:
                outputs.append(output.float())
        return outputs

    def _forward(
        self,
        step: int,
        micro_batch: int,
        released: Callable[[int], Tensor] | None,
        targets: Sequence[Tensor],
        batch_rows: int,
        report: StepReport,
    ) -> None:
        count = len(targets[micro_batch])
        rows, message = self._input(step, micro_batch, released, count)  # (1)
        start = time.perf_counter()
        # Segment 1 asks for no gradient of its input: none ever goes to the owner.
        rows = rows.detach().requires_grad_(self.edges.gradient_out is not None)
        output = self.segment(rows, step=step, micro_batch=micro_batch)  # (2)
        loss = None
        if self.is_last or self.head is not None:
            loss = self._loss(output, targets[micro_batch], batch_rows, report)
        # The message too: its receive slot holds the rows until their backward has run.
        self._live[micro_batch] = _Live(rows, output, loss, message)
        self._wait_for_device()
        report.forward_s += time.perf_counter() - start
        try:
            self._send(self.edges.activation_out, Kind.ACTIVATION, step, micro_batch, output)  # (3)
            if not math.isfinite(report.loss):
                raise DivergedError(
                    f"the loss is {report.loss}: training diverged on this rank",
                    where=f"step {step}",
                    remedy="Lower training.learning_rate, or set training.clip_norm",
                )
        except DivergedError as error:
            layers, first = self.segment.layers, self.segment.first_layer
            with self.segment.autocast():
                where = describe_divergence(layers, first, rows.detach())
            # What came in was finite, so it arose here, be it of huge numbers from another rank.
            raise DivergedError(
                f"{error.what}, {where}", where=error.where, remedy=error.remedy
            ) from None

    def _loss(self, output: Tensor, targets: Tensor, batch_rows: int, report: StepReport) -> Tensor:
        logits = output
        if self.head is not None:
            with self.segment.autocast():
                logits = self.head(output)
        loss = segment_loss(
            logits,
            targets,
            batch_rows=batch_rows,
            label_smoothing=self.settings.label_smoothing,
        )
        report.loss += float(loss.detach().item())
        report.scored = True
        report.correct += int((logits.detach().argmax(1) == targets).sum().item())
        return loss

    def _backward(self, step: int, micro_batch: int, report: StepReport) -> None:
        live = self._live.pop(micro_batch)
        if live.loss is not None:
            start = time.perf_counter()
            live.loss.backward()  # type: ignore[no-untyped-call]
            self._wait_for_device()
            report.backward_s += time.perf_counter() - start
        elif self.edges.gradient_in is not None:
            message = self.edges.gradient_in.receive(  # (4)
                Kind.GRADIENT,
                step,
                micro_batch,
                dtype=_WIRE[self.settings.wire_dtype],
                shape=tuple(live.output.shape),
            )
            start = time.perf_counter()
            # A segment without weights behind the owner has nothing to compute a gradient of.
            if live.output.requires_grad:
                gradient = message.tensor_on(live.output.device).to(live.output.dtype)
                backward_from_gradient(live.output, gradient)  # (5)
            self._wait_for_device()
            report.backward_s += time.perf_counter() - start
            self.edges.gradient_in.recycle(message)
        if self.edges.gradient_out is not None:
            if live.rows.grad is None:
                raise ClicooperError(
                    "no gradient reached the segment's input", where=f"step {step}"
                )
            self._send(self.edges.gradient_out, Kind.GRADIENT, step, micro_batch, live.rows.grad)
        self._recycle(live.message)

    def _wait_for_device(self) -> None:
        """Wait for the GPU, so that the clock shows computing and not only its start."""
        if self.segment.device.type == "cuda":
            torch.cuda.synchronize(self.segment.device)

    def _update(self, step: int, learning_rate: float, report: StepReport) -> None:
        if self.settings.clip_norm is not None:
            total = self._global_squared_norm(step)
            report.gradient_norm = total**0.5
            scale_gradients(self.parameters, total, self.settings.clip_norm)
        if self.optimizer is not None:
            # From the plan in every step: a scheduler object would carry state that a restart must
            # restore.
            self.optimizer.update_parameters(learning_rate)

    def _global_squared_norm(self, step: int) -> float:
        """Sum over all segments in `backprop`, over this one alone in `one-way`."""
        up, down = self.edges.gradient_out, self.edges.gradient_in
        partial = 0.0
        if up is not None and self.edges.activation_in is not None:
            partial = self._receive_squared_norm(self.edges.activation_in, step, least=0.0)
        total = squared_gradient_norm(self.parameters, partial)
        if down is not None and self.edges.activation_out is not None:
            self._send_number(self.edges.activation_out, step, total)
            # Squares only add: a smaller total would leave gradients unclipped.
            total = self._receive_squared_norm(down, step, least=total)
        if up is not None:
            self._send_number(up, step, total)
        return total

    def _input(
        self,
        step: int,
        micro_batch: int,
        released: Callable[[int], Tensor] | None,
        row_count: int,
    ) -> tuple[Tensor, Message | None]:
        if released is not None:
            return released(micro_batch).to(self.segment.device), None
        if self.edges.activation_in is None:
            raise ClicooperError("a segment behind the first has no channel to receive from")
        message = self.edges.activation_in.receive(
            Kind.ACTIVATION,
            step,
            micro_batch,
            dtype=_WIRE[self.settings.wire_dtype],
            # Exact: rows more or less would train on samples that nobody ordered.
            shape=(row_count, *self.input_shape),
        )
        rows = message.tensor_on(self.segment.device)
        return (rows.float() if self.settings.precision == "float32" else rows), message

    def _send(
        self, sender: Outbound | None, kind: Kind, step: int, micro_batch: int, tensor: Tensor
    ) -> None:
        if sender is None:
            return
        dtype = _WIRE[self.settings.wire_dtype]
        # Reduced precision on the wire only; both ends compute in their own.
        sender.send(tensor.detach().to(dtype), kind, step, micro_batch)

    def _recycle(self, message: Message | None) -> None:
        if message is not None and self.edges.activation_in is not None:
            self.edges.activation_in.recycle(message)

    @staticmethod
    def _send_number(sender: Outbound, step: int, value: float) -> None:
        sender.send(torch.tensor([value], dtype=torch.float64), Kind.NORM, step, 0)

    @staticmethod
    def _receive_squared_norm(receiver: Inbound, step: int, *, least: float) -> float:
        message = receiver.receive(Kind.NORM, step, 0, dtype=torch.float64, shape=(1,))
        value = float(message.tensor[0].item())
        receiver.recycle(message)
        if value < least:
            raise PeerError(
                f"the sum of squared gradients is {value:g}, and at least {least:g} is possible",
                where=f"gradient norm of step {step}, from {receiver.sender}",
                remedy=f"Run one clicooper_hpc version on all ranks; else {receiver.sender} is at "
                "fault",
            )
        return value

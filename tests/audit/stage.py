"""Small networks cut into segments, and the same training in plain PyTorch, for audit tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.models.build_model import build_model
from clicooper_hpc.models.layer_randomness import has_layer_randomness, seed_layer_randomness
from clicooper_hpc.models.layer_shapes import layer_shapes
from clicooper_hpc.models.local_head import local_head
from clicooper_hpc.pipeline.optim import SegmentOptimizer, build_optimizer
from clicooper_hpc.pipeline.runtime import Edges, SegmentRuntime, StepSettings
from clicooper_hpc.pipeline.schedule import Coupling
from clicooper_hpc.pipeline.segment import Segment, segment_loss
from clicooper_hpc.training.batches import average_batch_groups
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.learning_rate import LearningRateSchedule
from clicooper_hpc.training.run_plan import RunPlan
from clicooper_hpc.training.segment_state import export_segment_state

__all__ = ["Case", "Kinds", "Plain", "train"]

#: Class of some segments (numbered from 1), for trainers that cheat.
Kinds = Mapping[int, type[SegmentRuntime]]
SEED = 5
OUTPUTS = 6


@cache
def _released(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((70, *shape)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A job in small: 70 samples, 3 epochs, batches of 17 rows (the last of 2): nothing is even."""

    coupling: Coupling = "backprop"
    schedule: str = "1f1b"
    model: str = "mlp"
    options: dict[str, object] = field(
        default_factory=lambda: {"widths": [24, 24, 24], "dropout": 0.2}
    )
    shape: tuple[int, ...] = (10,)
    cuts: tuple[int, ...] = (4, 8)
    optimizer: str = "sgd"
    clip_norm: float | None = 0.5
    average_rows: int = 1
    cached: bool = True
    wire_dtype: str = "float32"
    epochs: int = 3

    @property
    def labels(self) -> NDArray[np.int32]:
        return np.random.default_rng(1).integers(0, OUTPUTS, 70).astype(np.int32)

    def rows(self, ids: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(_released(self.shape)[ids])

    def plan(self) -> RunPlan:
        return RunPlan(
            seed=SEED,
            epochs=self.epochs,
            batch_size=17,
            average_rows=self.average_rows,
            sub_labels=self.labels,
            validation_rows=0,
            evaluate_every=0,
            cached=self.cached,
            segments=len(self.cuts) + 1,
            micro_batches=5,
            schedule=self.schedule,
            coupling=self.coupling,
            rates=LearningRateSchedule(0.05, "cosine", 2, 0.1),
        )

    def steps(self) -> list[TrainStep]:
        return [e for e in self.plan().planned_events() if isinstance(e, TrainStep)]

    def parts(self) -> list[tuple[nn.Sequential, nn.Module | None, int]]:
        """Fresh (layers, local head, number of the first layer) of each segment."""
        model = build_model(
            self.model, input_shape=self.shape, outputs=OUTPUTS, seed=SEED, options=self.options
        )
        shapes = layer_shapes(model, self.shape)
        parts: list[tuple[nn.Sequential, nn.Module | None, int]] = []
        for first, stop in pairwise([0, *self.cuts, len(model)]):
            head = None
            if self.coupling == "one-way" and stop < len(model):
                head = local_head(tuple(shapes[stop]), OUTPUTS, SEED + stop)
            parts.append((nn.Sequential(*list(model)[first:stop]), head, first))
        return parts

    def new_optimizer(self, parameters: Sequence[nn.Parameter]) -> SegmentOptimizer | None:
        return build_optimizer(
            parameters, name=self.optimizer, momentum=0.9, weight_decay=0.01, betas=(0.9, 0.99)
        )

    def torch_optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer | None:
        """The same by torch's own classes, for a reference that shares no code with the product."""
        if not parameters:
            return None
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, weight_decay=0.01, betas=(0.9, 0.99))
        return torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.01)

    def runtimes(self, kinds: Kinds | None = None) -> list[SegmentRuntime]:
        """Fresh runtimes; ``kinds`` gives the class of some segments (numbered from 1)."""
        found = []
        parts = self.parts()
        shapes = layer_shapes(
            build_model(
                self.model, input_shape=self.shape, outputs=OUTPUTS, seed=SEED, options=self.options
            ),
            self.shape,
        )
        for number, (layers, head, first) in enumerate(parts, start=1):
            modules = [layers] if head is None else [layers, head]
            kind = (kinds or {}).get(number, SegmentRuntime)
            found.append(
                kind(
                    Segment(
                        layers,
                        first_layer=first,
                        seed=SEED,
                        device=torch.device("cpu"),
                        precision="float32",
                    ),
                    input_shape=tuple(shapes[first]),
                    edges=Edges(),
                    settings=StepSettings(0.1, self.clip_norm, "float32", self.wire_dtype),
                    is_last=number == len(parts),
                    head=head,
                    optimizer=self.new_optimizer([p for m in modules for p in m.parameters()]),
                )
            )
        return found


def train(
    case: Case,
    steps: Sequence[TrainStep],
    starts: Sequence[Mapping[str, Tensor]] | None = None,
    kinds: Kinds | None = None,
) -> StageReplay:
    """Run ``steps``; from the initial weights unless ``starts`` are given."""
    runtimes = case.runtimes(kinds)
    if starts is None:
        starts = [export_segment_state(runtime) for runtime in runtimes]
    return replay_stage(runtimes, starts, case.plan(), steps, case.rows)


class Plain:
    """The same training without segments' runtimes, channels or threads."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.parts = case.parts()
        self.parameters = [
            [p for m in (layers, head) if m is not None for p in m.parameters()]
            for layers, head, _ in self.parts
        ]
        self.optimizers = [case.torch_optimizer(parameters) for parameters in self.parameters]
        self.losses: list[float] = []

    def train(self, steps: Sequence[TrainStep]) -> None:
        plan = self.case.plan()
        for event in steps:
            loss_sum = 0.0
            for optimizer in self.optimizers:
                if optimizer is not None:
                    optimizer.zero_grad(set_to_none=True)
            labels = torch.from_numpy(event.batch.sub_labels.astype(np.int64))
            for micro_batch, part in enumerate(plan.planned_micro_batches(len(labels))):
                ids = event.batch.ids[part.start : part.stop]
                x = average_batch_groups(self.case.rows(ids.reshape(-1)), len(ids))
                targets = labels[part.start : part.stop]
                for layers, head, first in self.parts:
                    x = self._forward(layers, x, event.step, micro_batch, first)
                    last = layers is self.parts[-1][0]
                    if last or head is not None:
                        logits = x if head is None else head(x)
                        loss = segment_loss(
                            logits, targets, batch_rows=len(labels), label_smoothing=0.1
                        )
                        loss.backward()  # type: ignore[no-untyped-call]
                        x = x.detach()
                        loss_sum += loss.item() if last else 0.0
            self._update(plan.planned_rate(event.step))
            self.losses.append(loss_sum)

    def _forward(
        self, layers: nn.Sequential, x: Tensor, step: int, micro_batch: int, first: int
    ) -> Tensor:
        for index, layer in enumerate(layers):
            if has_layer_randomness(layer):
                seed_layer_randomness(SEED, step, micro_batch, first + index, "cpu")
            x = layer(x)
        return x

    def _update(self, rate: float) -> None:
        groups = self.parameters
        if self.case.coupling == "backprop":
            groups = [[p for parameters in self.parameters for p in parameters]]
        for group in groups if self.case.clip_norm is not None else []:
            total = sum(float(p.grad.double().square().sum()) for p in group if p.grad is not None)
            limit = self.case.clip_norm or 0.0
            for p in group if total**0.5 > limit else []:
                if p.grad is not None:
                    p.grad.mul_(limit / total**0.5)
        for optimizer in self.optimizers:
            if optimizer is not None:
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()

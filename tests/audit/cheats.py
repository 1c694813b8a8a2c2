"""Trainers that depart from the job, from one step on, and what they then claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.replay import StageReplay
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.transport.channel import Outbound
from clicooper_hpc.transport.message_kind import Kind

__all__ = ["CHEATS", "FIRST", "claim_of", "noisy"]

#: First step in which they depart.
FIRST = 9


class SkipsUpdates(SegmentRuntime):
    """Passes messages on and leaves its weights as they are."""

    def _update(self, step: int, learning_rate: float, report: StepReport) -> None:
        if step < FIRST:
            super()._update(step, learning_rate, report)
        elif self.settings.clip_norm is not None:
            self._global_squared_norm(step)


class WrongRate(SegmentRuntime):
    """Takes steps of almost the right length."""

    def _update(self, step: int, learning_rate: float, report: StepReport) -> None:
        super()._update(step, learning_rate * (1.001 if step >= FIRST else 1.0), report)


class _Forger(SegmentRuntime):
    """Sends something else than it computed."""

    forged: Kind

    def _send(
        self, sender: Outbound | None, kind: Kind, step: int, micro_batch: int, tensor: Tensor
    ) -> None:
        if kind is self.forged and step >= FIRST:
            tensor = self._forge(tensor)
        super()._send(sender, kind, step, micro_batch, tensor)

    def _forge(self, tensor: Tensor) -> Tensor:
        raise NotImplementedError


class NoiseForActivations(_Forger):
    forged = Kind.ACTIVATION

    def _forge(self, tensor: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return torch.randn(tensor.shape, generator=generator)


class OneWrongActivation(_Forger):
    """A single number, by the least that can be."""

    forged = Kind.ACTIVATION

    def _forge(self, tensor: Tensor) -> Tensor:
        changed = tensor.detach().clone()
        changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
        return changed


class NoGradients(_Forger):
    forged = Kind.GRADIENT

    def _forge(self, tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor)


class WrongLabels(SegmentRuntime):
    """Learns something else than the sub-labels."""

    def train_step(self, step: int, lane: Any, **others: Any) -> StepReport:
        if step >= FIRST:
            others["targets"] = [(labels + 1) % 6 for labels in others["targets"]]
        return super().train_step(step, lane, **others)


#: Runtime of the cheat, and whether segment ``number`` of ``count`` can do it in a coupling.
CHEATS: dict[str, tuple[type[SegmentRuntime], Callable[[int, int, str], bool]]] = {
    "skips updates": (SkipsUpdates, lambda number, count, coupling: True),
    "wrong rate": (WrongRate, lambda number, count, coupling: True),
    "noise for activations": (NoiseForActivations, lambda number, count, _: number < count),
    "one wrong activation": (OneWrongActivation, lambda number, count, _: number < count),
    "no gradients": (
        NoGradients,
        lambda number, count, coupling: number > 1 and coupling == "backprop",
    ),
    "wrong labels": (
        WrongLabels,
        lambda number, count, coupling: number == count or coupling == "one-way",
    ),
}


def claim_of(
    recorded: StageReplay, states: Sequence[Mapping[str, Tensor]] | None = None
) -> StageClaim:
    """Return what the trainers of a recorded stage say; ``states`` if they lie about these."""
    digests: dict[Stream, list[bytes]] = {}
    for message in recorded.trace.sent:
        digests.setdefault(message.stream, []).append(message.digest)
    return StageClaim(recorded.states if states is None else states, digests)


def noisy(state: Mapping[str, Tensor], scale: float, prefix: str = "weights/") -> dict[str, Tensor]:
    """Return ``state`` with a little noise on what begins with ``prefix``."""
    generator = torch.Generator().manual_seed(4)
    return {
        name: value + scale * torch.randn(value.shape, generator=generator)
        if name.startswith(prefix)
        else value
        for name, value in state.items()
    }

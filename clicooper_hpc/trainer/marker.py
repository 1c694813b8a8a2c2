"""Marks of one segment: keys drawn ahead, carriers per stage, embedding in the training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from clicooper_hpc.provenance.chain import mark_chain
from clicooper_hpc.provenance.fields import decimal
from clicooper_hpc.provenance.marks.carriers import Carriers, draw
from clicooper_hpc.provenance.marks.embed import Embedder
from clicooper_hpc.provenance.marks.extract import read_mark
from clicooper_hpc.provenance.marks.keys import mark_root, mark_seed, stage_key
from clicooper_hpc.provenance.marks.plan import MarkPlan
from clicooper_hpc.provenance.statements import MarkClaim, MarkPlanClaim

__all__ = ["ChainParts", "MarkSettings", "Marker", "embedding_hook"]


@dataclass(frozen=True, slots=True)
class ChainParts:
    """What the chain value of a stage is made of; see `mark_chain` (32 bytes each)."""

    ticket: bytes
    previous: bytes
    neighbour: bytes
    weights_in: bytes
    public_key: bytes

    def chain(self) -> bytes:
        """Return the chain value."""
        return mark_chain(
            ticket=self.ticket,
            previous=self.previous,
            neighbour=self.neighbour,
            weights_in=self.weights_in,
            public_key=self.public_key,
        ).value


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """Public size of the marks, and the secret (32 bytes) their keys come from."""

    plan: MarkPlan
    every_steps: int
    master: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Mark:
    stage: int
    chain: bytes
    carriers: Carriers


class Marker:
    """Puts the mark of every stage into ``layers``."""

    def __init__(
        self, layers: nn.Module, settings: MarkSettings, *, run_id: str, segment: int, stages: int
    ) -> None:
        self._layers = layers
        self._settings = settings
        self._shapes = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
        self._root = mark_root(run_id, segment, settings.master, stages)
        self._mark: _Mark | None = None
        self._seconds = 0.0

    def claim(self) -> MarkPlanClaim:
        """Return what the enrolment says of the marks."""
        plan = self._settings.plan
        return MarkPlanClaim(
            bits=plan.bits,
            weights_per_bit=plan.weights_per_bit,
            tau=plan.tau_text,
            root=self._root.hex(),
            eligible=plan.eligible,
        )

    def start(
        self, stage: int, *, first: int, last: int, parts: ChainParts
    ) -> Callable[[int], None]:
        """Prepare the mark of a stage; return what to call after the update of every step."""
        begun = time.perf_counter()
        chain = parts.chain()
        seed = mark_seed(stage_key(self._settings.master, stage), chain)
        carriers = draw(self._settings.plan, self._shapes, seed)
        self._mark = _Mark(stage, chain, carriers)
        embed = embedding_hook(
            self._layers,
            self._settings.plan,
            carriers,
            first=first,
            last=last,
            every_steps=self._settings.every_steps,
        )
        self._seconds += time.perf_counter() - begun

        def timed(step: int) -> None:
            begun = time.perf_counter()
            embed(step)
            self._seconds += time.perf_counter() - begun

        return timed

    def take_seconds(self) -> float:
        """Return what marking took since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def finish(self) -> MarkClaim:
        """Read the mark back from the weights."""
        if self._mark is None:
            raise ValueError("no mark was started")
        plan = self._settings.plan
        tensors = {
            name: self._layers.state_dict()[name].detach().float().cpu().numpy()
            for name in plan.eligible
        }
        reading = read_mark(tensors, plan, self._mark.carriers)
        return MarkClaim(
            chain=self._mark.chain.hex(),
            leaf_index=self._mark.stage,
            errors=reading.errors,
            statistic=decimal(reading.statistic),
        )


def embedding_hook(
    layers: nn.Module,
    plan: MarkPlan,
    carriers: Carriers,
    *,
    first: int,
    last: int,
    every_steps: int,
) -> Callable[[int], None]:
    """Return what puts a mark in every ``every_steps`` steps of a stage and after its last.

    An audit that replays the stage uses the same function, so both change the same bits.
    """
    embedder = Embedder(layers.state_dict(), plan, carriers)

    def after_update(step: int) -> None:
        if step == last - 1 or (step - first + 1) % every_steps == 0:
            embedder.embed()

    return after_update

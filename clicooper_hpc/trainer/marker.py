"""A trainer's marker: embeds the mark of every stage into its segment while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from clicooper_hpc.provenance.marks.carriers import Carriers, draw_carriers
from clicooper_hpc.provenance.marks.embedder import Embedder
from clicooper_hpc.provenance.marks.mark_keys import mark_key_root, mark_key_seed, stage_mark_key
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan
from clicooper_hpc.provenance.marks.reading import read_mark
from clicooper_hpc.provenance.statement_fields import decimal_field
from clicooper_hpc.provenance.statements import MarkClaim, MarkPlanClaim

__all__ = ["MarkSettings", "Marker", "marker_hook"]


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
        # All stages at once: the keys must be fixed before the run to prove precedence.
        self._root = mark_key_root(run_id, segment, settings.master, stages)
        self._mark: _Mark | None = None
        self._seconds = 0.0

    def plan_claim(self) -> MarkPlanClaim:
        """Return what the enrolment says of the marks."""
        return MarkPlanClaim.of(self._settings.plan, self._root)

    def start_mark(
        self, stage: int, *, first: int, last: int, chain: bytes
    ) -> Callable[[int], None]:
        """Prepare the mark of a stage; return what to call after the update of every step.

        ``chain`` is the chain value (32 bytes) of all that came before the stage.
        """
        begun = time.perf_counter()
        seed = mark_key_seed(stage_mark_key(self._settings.master, stage), chain)
        carriers = draw_carriers(self._settings.plan, self._shapes, seed)
        self._mark = _Mark(stage, chain, carriers)
        embed = marker_hook(
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
        """Return the seconds that marking took since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def claim_mark(self) -> MarkClaim:
        """Read the mark back from the weights."""
        if self._mark is None:
            raise ValueError("no mark was started")
        plan = self._settings.plan
        tensors = {
            # Read as a verifier will, from the values as they are stored.
            name: self._layers.state_dict()[name].detach().float().cpu().numpy()
            for name in plan.eligible
        }
        reading = read_mark(tensors, plan, self._mark.carriers)
        return MarkClaim(
            chain=self._mark.chain.hex(),
            leaf_index=self._mark.stage,
            errors=reading.errors,
            statistic=decimal_field(reading.statistic),
        )


def marker_hook(
    layers: nn.Module,
    plan: MarkPlan,
    carriers: Carriers,
    *,
    first: int,
    last: int,
    every_steps: int,
) -> Callable[[int], None]:
    """Return a callback that embeds a mark every ``every_steps`` steps and after the last one.

    An audit that replays the stage uses the same function, so both change the same bits.
    """
    embedder = Embedder(layers.state_dict(), plan, carriers)

    def after_update(step: int) -> None:
        # After the last step always: the weights that are proved must carry the mark.
        if step == last - 1 or (step - first + 1) % every_steps == 0:
            embedder.embed()

    return after_update

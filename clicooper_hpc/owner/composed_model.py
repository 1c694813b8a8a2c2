"""The composed model: the ordered network, filled with delivered segments and scored."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.owner.class_pooling import ClassPooling
from clicooper_hpc.owner.delivery import accept_delivery, delivery_size_limit
from clicooper_hpc.owner.evaluation import (
    CleanEvaluation,
    HeldOutSamples,
    Score,
    evaluate_clean,
    evaluate_probabilities,
)
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.transport.finite_payload import (
    describe_non_finite,
    flat_numbers,
    root_mean_square,
)
from clicooper_hpc.transport.growth_watch import GrowthWatch
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import World

__all__ = ["ComposedModel"]

_log = logging.getLogger(__name__)


class ComposedModel:
    """What the owner has ordered, as far as it has been delivered.

    Parameters
    ----------
    model
        The whole network; delivered segments replace its weights.
    layout
        Its cuts.
    folder
        Where delivered segments are kept.
    label_map
        From sub-labels back to classes.
    held_out
        Clean rows of the test split, which never leave the owner.
    temperature
        Of the class scores the front ends in, if it does; see `evaluate_clean`.
    """

    def __init__(
        self,
        model: nn.Sequential,
        layout: Layout,
        *,
        folder: Path,
        label_map: LabelMap,
        held_out: HeldOutSamples,
        temperature: float | None,
    ) -> None:
        self._model = model
        self._layout = layout
        self._folder = folder
        self._label_map = label_map
        self._held_out = held_out
        self._temperature = temperature
        self._segments = _CheckedSegments(
            *(layout.layers_of(model, number) for number in range(len(layout.segments)))
        )
        # Compared with the initial weights, so that the first delivery counts.
        self._watches = [GrowthWatch(settling=1) for _ in layout.segments]
        for watch, segment in zip(self._watches, self._segments, strict=True):
            watch.note_magnitude(_weights_magnitude(segment), 0)
        self._released: list[tuple[NDArray[np.float64], NDArray[np.int64]]] = []

    @property
    def num_logits(self) -> int:
        """Logits of one row: one for each sub-label."""
        return self._layout.shapes[-1][0]

    def receive_delivery(self, world: World, step: int, wait_s: float) -> list[str]:
        """Take all segments as they are after ``step`` steps; return their tensor roots (hex).

        Raises
        ------
        PeerError
            A segment is not the ordered one, or does not come within ``wait_s`` seconds.
        """
        roots: list[str] = []
        for number in range(1, len(self._layout.segments) + 1):
            layers = self._layout.layers_of(self._model, number - 1)
            content = world.receive_blob(
                number,
                kind=Kind.SEGMENT,
                step=step,
                # What the ordered segment can need at most: a trainer cannot fill the owner's
                # memory.
                limit_bytes=delivery_size_limit(layers),
                deadline_s=wait_s,
            )
            accept_delivery(bytes(content), layers, number, self._folder, step=step)
            self._warn_of_growth(number, layers, step)
            # Of the bytes as they came, not of the file made from them: these are what was proved.
            roots.append(digest_tensors(content).hex)
        return roots

    def _warn_of_growth(self, number: int, layers: nn.Sequential, step: int) -> None:
        growth = self._watches[number - 1].note_magnitude(_weights_magnitude(layers), step)
        if growth is not None:
            _log.warning(
                "segment delivered by rank %d after step %d: its weights are %.1e times as large "
                "as after step %d: training diverges, or rank %d sends false numbers",
                number,
                step,
                growth.factor,
                growth.since,
                number,
            )

    def score_held_out(self) -> CleanEvaluation:
        """Score the model on clean held-out rows.

        Raises
        ------
        ClicooperError
            The outputs of a segment are not finite; names the first one.
        """
        return evaluate_clean(
            self._segments,
            self._held_out.clean_batches(),
            self._label_map,
            temperature=self._temperature,
            baselines=self._held_out.baselines,
        )

    def add_released_logits(self, logits: Tensor, classes: NDArray[np.int64]) -> None:
        """Note what the last trainer answered to released validation rows.

        ``logits`` float32 [rows, sub-labels]; ``classes`` int64 [rows], the true ones.
        """
        pooled = ClassPooling(self._label_map)(logits)
        self._released.append((pooled.numpy(), classes))

    def score_released(self) -> Score:
        """Score the answers since the last call; NaN if there were none."""
        released, self._released = self._released, []
        if not released:
            return Score(float("nan"), float("nan"), 0)
        return evaluate_probabilities(
            np.concatenate([part[0] for part in released]),
            np.concatenate([part[1] for part in released]),
        )


class _CheckedSegments(nn.Sequential):
    """Segments in order; names the first whose outputs are not finite."""

    def forward(self, rows: Tensor) -> Tensor:
        for number, segment in enumerate(self, start=1):
            rows = segment(rows)
            odd = describe_non_finite(rows)
            # Scores of NaN would be stored and signed; and who gave it is known here alone.
            if odd is not None:
                raise ClicooperError(
                    f"its outputs on clean rows hold {odd} first: its weights are finite, and too "
                    "large",
                    where=f"segment {number} as rank {number} delivered it",
                    remedy="Training diverged there, or the weights are not those of the training. "
                    "Lower training.learning_rate, or set training.clip_norm",
                )
        return rows


def _weights_magnitude(layers: nn.Module) -> float:
    """Return the root mean square of all weights and buffers; 0 without any."""
    squares = count = 0.0
    for value in layers.state_dict().values():
        if value.is_floating_point():
            squares += root_mean_square(flat_numbers(value)) ** 2 * value.numel()
            count += value.numel()
    return math.sqrt(squares / count) if count else 0.0

"""The owner names the segment whose outputs are not finite, and weights that have grown."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.owner.composed_model import ComposedModel
from clicooper_hpc.pipeline.layout import make_layout
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey


class FakeWorld:
    """Brings the segments it is given."""

    def __init__(self, segments: list[nn.Module]) -> None:
        self._segments = segments

    def receive_blob(self, number: int, **_: Any) -> bytes:
        return save(self._segments[number - 1].state_dict())


class HeldOut:
    """Two rows of ones."""

    baselines = None

    def clean_batches(self) -> Iterator[Any]:
        yield torch.ones(2, 4), np.array([0, 1])


def network(*factors: float) -> nn.Sequential:
    layers = []
    for factor in factors:
        layer = nn.Linear(4, 4, bias=False)
        layer.weight.data = factor * torch.eye(4)
        layers.append(layer)
    return nn.Sequential(*layers)


def deliver(folder: Path, *factors: float) -> ComposedModel:
    model = network(1.0, 1.0, 1.0)
    composed = ComposedModel(
        model,
        make_layout(model, (4,), segments=3, cuts=[1, 2], costs=None, memory_gib=[], live_rows=2),
        folder=folder,
        label_map=LabelMap.draw_label_map("random", 2, 2, MasterKey.from_seed(3)),
        held_out=HeldOut(),  # type: ignore[arg-type]
        temperature=None,
    )
    trained = [nn.Sequential(layer) for layer in network(*factors)]
    composed.receive_delivery(FakeWorld(trained), 8, 1.0)  # type: ignore[arg-type]
    return composed


def test_the_first_segment_that_overflows_is_named(tmp_path: Path) -> None:
    composed = deliver(tmp_path, 1e20, 1e20, 1e20)
    with pytest.raises(ClicooperError) as refused:
        composed.score_held_out()
    line = refused.value.line()
    assert line.startswith("segment 2 as rank 2 delivered it: its outputs on clean rows hold inf")
    assert "its weights are finite, and too large" in line


def test_weights_that_have_grown_are_told_and_nobody_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        composed = deliver(tmp_path, 2.0, 1e6, 1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "segment delivered by rank 2 after step 8: its weights are 1.0e+06 times as large as after "
        "step 0: training diverges, or rank 2 sends false numbers"
    ]
    assert composed.score_held_out().scores.model.samples == 2

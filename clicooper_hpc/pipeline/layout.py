"""Where the network is cut among the trainers, and what each segment then holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.layer_shapes import count_layer_parameters, layer_flops, layer_shapes
from clicooper_hpc.pipeline.partition import check_partition, partition_layers, partition_spans

__all__ = [
    "Layout",
    "counted_layout_costs",
    "layout_memory",
    "make_layout",
    "measured_layout_costs",
]

_GIB = 2**30
#: Weight, gradient and two optimizer moments, float32.
_BYTES_PER_PARAMETER = 16


@dataclass(frozen=True, slots=True)
class Layout:
    """Cuts of a network and the per-sample shapes at every layer boundary.

    ``shapes[j]`` is the shape that enters layer j; ``shapes[-1]`` leaves the last layer.
    """

    cuts: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def segments(self) -> tuple[range, ...]:
        """Layer numbers of each segment."""
        return tuple(partition_spans(self.cuts, len(self.shapes) - 1))

    def input_shape(self, segment: int) -> tuple[int, ...]:
        """Shape of one row entering ``segment`` (0-based)."""
        return self.shapes[self.segments[segment].start]

    def output_shape(self, segment: int) -> tuple[int, ...]:
        """Shape of one row leaving ``segment`` (0-based)."""
        return self.shapes[self.segments[segment].stop]

    def layers_of(self, model: nn.Sequential, segment: int) -> nn.Sequential:
        """Return the layers of ``model`` that ``segment`` (0-based) holds; weights are shared."""
        span = self.segments[segment]
        return nn.Sequential(*list(model)[span.start : span.stop])


def counted_layout_costs(
    model: nn.Sequential, input_shape: tuple[int, ...], segments: int
) -> NDArray[np.float64]:
    """Return the counted operations of each layer, float64 [segments, layers], all rows alike."""
    # A layer without counted operations still costs a pass over its output.
    shapes = layer_shapes(model, input_shape)
    flops = layer_flops(model, input_shape)
    row = [
        float(f) + 8.0 * float(np.prod(shape)) for f, shape in zip(flops, shapes[1:], strict=True)
    ]
    # All ranks alike, so that the cuts are a function of the job: the same for every auditor.
    return np.tile(np.asarray(row, dtype=np.float64), (segments, 1))


def measured_layout_costs(
    model: nn.Sequential,
    input_shape: tuple[int, ...],
    *,
    rows: int,
    device: torch.device,
    repeats: int = 5,
) -> NDArray[np.float64]:
    """Median seconds of forward and backward of each layer on this rank, float64 [layers]."""
    import time

    times = np.zeros((repeats, len(model)))
    for repeat in range(repeats):
        x = torch.zeros((rows, *input_shape), device=device)
        for index, layer in enumerate(model):
            layer.to(device)
            # One layer at a time: its backward must not run on into the layers before it.
            x = x.detach().requires_grad_()
            _wait_for_device(device)
            start = time.perf_counter()
            y = layer(x)
            y.sum().backward()
            _wait_for_device(device)
            times[repeat, index] = time.perf_counter() - start
            x = y
    for parameter in model.parameters():
        # The measurement must leave nothing behind that training could see.
        parameter.grad = None
    model.to("cpu")
    # Not the mean: the first pass also pays for loading kernels.
    return np.median(times, axis=0)


def _wait_for_device(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def layout_memory(
    model: nn.Sequential, shapes: Sequence[tuple[int, ...]], rows: int
) -> NDArray[np.float64]:
    """Bytes of each layer: weights with their optimizer state, and ``rows`` live output rows."""
    weights = [_BYTES_PER_PARAMETER * count_layer_parameters([layer]) for layer in model]
    outputs = [4 * rows * float(np.prod(shape)) for shape in shapes[1:]]
    return np.asarray(weights, dtype=np.float64) + np.asarray(outputs, dtype=np.float64)


def make_layout(
    model: nn.Sequential,
    input_shape: tuple[int, ...],
    *,
    segments: int,
    cuts: Sequence[int] | None,
    costs: NDArray[np.float64] | None,
    memory_gib: Sequence[float] | None,
    live_rows: int,
) -> Layout:
    """Cut ``model`` at ``cuts``, or so that the slowest segment is as fast as can be.

    ``costs`` [segments, layers] in any unit; ``memory_gib`` limit of each trainer; ``live_rows``
    rows whose activations a segment holds at once.
    """
    shapes = tuple(layer_shapes(model, input_shape))
    if cuts is not None:
        # Explicit cuts win over costs and limits: a restart and an audit cut where the run was cut.
        check_partition(cuts, len(model), segments)
        return Layout(tuple(cuts), shapes)
    if costs is None:
        costs = counted_layout_costs(model, input_shape, segments)
    if memory_gib is not None and len(memory_gib) != segments:
        raise UsageError(
            f"{len(memory_gib)} limits for {segments} trainers",
            where="pipeline.memory_gib",
            remedy="Give one number for each trainer.",
        )
    limits = None if memory_gib is None else [int(gib * _GIB) for gib in memory_gib]
    memory = None if limits is None else layout_memory(model, shapes, live_rows)
    return Layout(partition_layers(costs, memory=memory, limits=limits), shapes)

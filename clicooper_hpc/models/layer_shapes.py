"""Shapes between layers, parameters and operations of each layer, measured on one row."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.dry_run import dry_run_layer, dry_run_mode, dry_run_rows
from clicooper_hpc.models.operation_counter import OperationCounter

__all__ = ["count_layer_parameters", "layer_flops", "layer_shapes", "require_map_shape"]


def layer_shapes(model: nn.Sequential, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape of one sample at every boundary: before layer 0, ..., after the last.

    Entry i is what layer i receives, entry i + 1 what it gives. Runs two made-up rows in
    evaluation mode; modes and random generators are as before afterwards.

    Raises
    ------
    UsageError
        A layer fails on ``input_shape`` or gives what cannot cross a boundary (see
        ``dry_run.run_layer``); names index and type of the layer.
    """
    with dry_run_mode(model, training=False), torch.no_grad():
        # Two rows: with one, a layer that folds the batch axis would go unnoticed.
        rows = dry_run_rows(model, input_shape, rows=2)
        shapes = [tuple(rows.shape[1:])]
        for index, layer in enumerate(model):
            rows = dry_run_layer(index, layer, rows)
            shapes.append(tuple(rows.shape[1:]))
    return shapes


def count_layer_parameters(layers: Iterable[nn.Module]) -> int:
    """Return the number of parameters in ``layers`` (a list of layers or an ``nn.Sequential``)."""
    # No shared parameter is counted twice: `check_segmentable` refuses networks that have one.
    return sum(parameter.numel() for layer in layers for parameter in layer.parameters())


def layer_flops(model: nn.Sequential, input_shape: tuple[int, ...]) -> list[int]:
    """Return the floating-point operations of each layer's forward pass on one sample.

    Counts matrix products, convolutions and attention as ``torch.utils.flop_counter`` does (a
    multiply-add is 2), everything elementwise as 0. The same on every machine.

    Raises ``UsageError`` as ``layer_shapes`` does.
    """
    counts = []
    with dry_run_mode(model, training=False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        rows = dry_run_rows(model, input_shape, rows=1)
        for index, layer in enumerate(model):
            # Fused inference kernels and fused attention hide their operations from the counter;
            # wanting a gradient, and the plain attention kernel, keep torch from taking them.
            rows = rows.detach().requires_grad_().clone()
            with OperationCounter() as counter:
                rows = dry_run_layer(index, layer, rows)
            counts.append(counter.operations)
    return counts


def require_map_shape(input_shape: tuple[int, ...], *, model: str) -> tuple[int, int, int]:
    """Return ``input_shape`` as (channels, height, width), or refuse it for network ``model``."""
    if len(input_shape) != 3:
        raise UsageError(
            f"network {model!r} needs maps [channels, height, width], "
            f"but the release has the shape {list(input_shape)}",
            where=f'model.name = "{model}"',
            remedy="Use 'mlp', or cut the front where it still gives maps.",
        )
    channels, height, width = input_shape
    return channels, height, width

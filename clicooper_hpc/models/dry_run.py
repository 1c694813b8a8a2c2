"""Running a network once, layer by layer, without leaving a trace in it or in the generators.

Layers may be a user's own code: they may raise anything, end the process, and print.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout

import torch
from torch import Tensor, nn

from clicooper_hpc.errors import UsageError

__all__ = ["USER_ERRORS", "dry_run_layer", "dry_run_mode", "dry_run_rows", "own_prints_aside"]

#: What code of a user's own may raise, and is a mistake in the job then.
USER_ERRORS = (Exception, SystemExit)


def own_prints_aside() -> AbstractContextManager[object]:
    """Return a context in which what is printed goes to standard error: results go to the other."""
    return redirect_stdout(sys.stderr)


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@contextmanager
def dry_run_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Hold ``model`` in training or evaluation mode; put modes and generators back afterwards.

    What layers print goes to standard error.
    """
    # Module by module, because a user may have set some of them to evaluation.
    modes = [(module, module.training) for module in model.modules()]
    device = _device(model)
    devices = [device] if device.type == "cuda" else []
    with own_prints_aside(), torch.random.fork_rng(devices=devices):
        model.train(training)
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def dry_run_rows(model: nn.Module, input_shape: tuple[int, ...], rows: int) -> Tensor:
    """Return float32 [rows, *input_shape] on the model's device: a fixed wave, all rows unlike."""
    if not input_shape or min(input_shape) < 1:
        raise ValueError(f"{input_shape} is not the shape of a sample")
    count = rows * math.prod(input_shape)
    # No random numbers, so nothing is drawn from a generator; a sine so that rows differ and stay
    # in the range that layers expect.
    wave = torch.sin(torch.arange(count, dtype=torch.float32))
    return wave.reshape(rows, *input_shape).to(_device(model))


def dry_run_layer(
    index: int, layer: nn.Module, rows: Tensor, *, call: Callable[[Tensor], object] | None = None
) -> Tensor:
    """Run layer number ``index`` on ``rows`` (``call`` stands in for ``layer`` when given).

    Raises
    ------
    UsageError
        The layer fails on this input, changes it in place, or gives something that cannot cross
        a boundary: anything but one contiguous floating tensor whose axis 0 are the rows.
    """
    where = f"layer {index} ({type(layer).__name__}) of the network"
    # PyTorch counts writes to a tensor here; comparing values would miss a ReLU in place on
    # positive ones.
    version = rows._version
    try:
        result = (call or layer)(rows)
    except USER_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"fails on samples of shape {list(rows.shape[1:])}: {reason}", where=where
        ) from error
    if rows._version != version:
        raise UsageError(
            "changes its input in place, which a neighbouring segment may still need",
            where=where,
            remedy="Build it with inplace=False.",
        )
    # A tuple or a dict has no place in a message: one buffer, one shape, one dtype.
    if not isinstance(result, Tensor):
        raise UsageError(
            f"gives a {type(result).__name__}; only a single tensor can pass between segments",
            where=where,
        )
    if not result.is_floating_point():
        raise UsageError(f"gives {result.dtype} numbers; gradients need floats", where=where)
    # Micro-batches are rows: a layer that folds them cannot be fed in parts.
    if result.ndim == 0 or result.shape[0] != rows.shape[0]:
        raise UsageError(
            f"turns {rows.shape[0]} rows into a tensor of shape {list(result.shape)}",
            where=where,
            remedy="Axis 0 must stay the rows of the batch.",
        )
    # MPI sends the memory of a tensor as it lies.
    if not result.is_contiguous():
        raise UsageError(
            "gives a tensor that is not contiguous in memory",
            where=where,
            remedy="End the layer's forward with .contiguous().",
        )
    return result

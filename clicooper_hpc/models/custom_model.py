"""A network that is not built in: a user's ``"module:function"``, or one of a package by name."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.batch_norms import replace_batch_norms
from clicooper_hpc.models.dry_run import USER_ERRORS, own_prints_aside
from clicooper_hpc.models.layer_shapes import layer_shapes
from clicooper_hpc.models.module_options import ModuleOptions
from clicooper_hpc.models.packaged_model import find_packaged_model
from clicooper_hpc.models.segmentable import (
    check_modules,
    check_row_independence,
    check_segmentable,
)
from clicooper_hpc.models.traced.traced_layers import traced_layers

__all__ = ["build_custom_model"]


def build_custom_model(
    reference: str,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    seed: int,
    options: Mapping[str, object],
    search_path: Path | None,
    choices: ModuleOptions,
) -> nn.Sequential:
    """Import the module, call the function with torch's CPU generator seeded, check the network.

    The function is called as ``function(input_shape=..., outputs=..., **options)``, or is that of a
    package (`find_packaged_model`). Modules are looked for in ``search_path`` (the job file's
    folder), then as Python always does. The global generators are as before afterwards.

    A plain ``nn.Sequential`` is taken as it is; any other module is traced (`traced_layers`).

    Raises
    ------
    UsageError
        Module or function cannot be found or fail; the function returns no module, or one that
        cannot be traced or cut, mixes rows, does not take samples of ``input_shape`` or does not
        give ``outputs`` numbers per row.
    """
    where = f'model.name = "{reference}"'
    # The function may draw from torch's generators; what a run draws later must not depend on it.
    with _importable(search_path), own_prints_aside(), torch.random.fork_rng(devices=[]):
        packaged = find_packaged_model(reference, where)
        function = packaged or _find_function(reference, where, search_path)
        # All ranks and auditors build the network themselves and must get the same initial weights.
        torch.default_generator.manual_seed(seed)
        try:
            model = function(input_shape=input_shape, outputs=outputs, **options)
        except USER_ERRORS as error:
            # It is a mistake in the job, not ours.
            raise UsageError(f"the function fails: {_reason(error)}", where=where) from error
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"the function returned a {type(model).__name__}, not an nn.Module",
            where=where,
            remedy="Return nn.Sequential(layer, layer, ...), or a module that torch.fx can trace.",
        )
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        raise UsageError(
            "the function put the network on another device",
            where=where,
            remedy="Build it on the CPU; each segment is moved to its trainer's device.",
        )
    model = replace_batch_norms(model, choices.batch_norm, where)
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        check_modules(model, where)
        model = traced_layers(model, input_shape, several=choices.cuts == "any", where=where)
    # Before shapes are tried: those need a plain sequence of layers.
    check_segmentable(model)
    given = layer_shapes(model, input_shape)[-1]
    # The last segment's loss is over sub-labels; fewer outputs would show only as an index error
    # there.
    if given != (outputs,):
        raise UsageError(
            f"the network gives {list(given)} per sample, the job needs [{outputs}]",
            where=where,
            remedy="End it with a layer of `outputs` units: one per sub-label.",
        )
    check_row_independence(model, input_shape)
    return model.train()


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    """Put ``folder`` first among the places modules come from, for a while."""
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    # A module that was written after Python last listed the folder would not be found.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)


def _find_function(reference: str, where: str, folder: Path | None) -> Callable[..., object]:
    module_name, _, function_name = reference.partition(":")
    if not module_name or not function_name.isidentifier():
        raise UsageError(
            "is not of the form module:function", where=where, remedy="As in 'mynet:build'."
        )
    try:
        module = importlib.import_module(module_name)
    except USER_ERRORS as error:
        raise UsageError(
            f"module {module_name!r} cannot be imported: {_reason(error)}",
            where=where,
            remedy=f"It is looked for in {folder or 'no job folder'} and on Python's path.",
        ) from error
    function: Callable[..., object] | None = getattr(module, function_name, None)
    if not callable(function):
        raise UsageError(
            f"module {module_name!r} ({getattr(module, '__file__', None) or 'built in'}) "
            f"has no function {function_name!r}",
            where=where,
        )
    return function


def _reason(error: BaseException) -> str:
    """Return the error's type, text, and the line of code it came from, on one line."""
    # The innermost frame is the user's line, or the library's that refused its arguments.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"

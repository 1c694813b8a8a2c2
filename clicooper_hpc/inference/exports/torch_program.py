"""The model as a program of `torch.export` (.pt2): runs in plain torch, for any number of rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clicooper_hpc.errors import UsageError
from clicooper_hpc.inference.exports.output_comparison import compare_outputs
from clicooper_hpc.inference.load_model import LoadedModel

__all__ = ["trace_program", "write_torch_program"]

#: What tracing notes of where an operation comes from: source lines, with paths of this machine.
_ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


def trace_program(model: LoadedModel) -> torch.export.ExportedProgram:
    """Return the model as a program; its input is called ``raw``.

    Raises
    ------
    UsageError
        The network cannot be traced: one of the user's own whose code depends on values.
    """
    rows = torch.export.Dim("rows", min=1)
    # Kept in the program, so not in the range of the training samples, which is private.
    example = torch.zeros((2, *model.classifier.input_shape))
    try:
        program = torch.export.export(model.classifier, (example,), dynamic_shapes=({0: rows},))
    # torch raises errors of many kinds over code it cannot trace.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"torch.export cannot trace the network ({reason})",
            where=f"model.name = {model.job.model.name!r}",
            remedy="Write its forward without branches on values, or export --to safetensors.",
        ) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for name in _ORIGINS:
                    node.meta.pop(name, None)
    return program


def write_torch_program(model: LoadedModel, path: Path) -> float:
    """Write the program to ``path`` (.pt2), read it back; return as `compare_outputs`."""
    program = trace_program(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.export.save(program, path)
        loaded: Any = torch.export.load(path)
    run: Callable[[Tensor], Tensor] = loaded.module()
    return compare_outputs(model, run, where=str(path.name))

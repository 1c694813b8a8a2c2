"""`FrontLayers`: a front as a module of torch, for networks that take raw rows.

A front's operations are values (`clicooper_hpc.fronts.operations`); here their constants are
buffers of modules, so that they move between devices, are saved and are exported with the rest of
a network. A copy: the owner's front is left as it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Operation, restore_operation

__all__ = ["FrontLayers"]


class FrontLayers(nn.Module):
    """Maps raw rows float32 [n, *input_shape] to float32 [n, *output_shape].

    The same bits as `Front.apply`: kernels see blocks of ``front.block_rows`` rows. While a program
    is traced (`torch.export`) they see all rows at once, for its number of rows is left open.

    Raises
    ------
    DataError
        A number that goes in or comes out is not finite.
    """

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.output_shape = front.output_shape
        self.block_rows = front.block_rows
        self.operations = nn.Sequential(*map(_OperationLayer, front.operations))

    def forward(self, rows: Tensor) -> Tensor:
        """Apply the front."""
        if torch.compiler.is_compiling():
            whole: Tensor = self.operations(rows)
            return whole
        # Not only at the end: an operation may turn NaN into a number.
        if not bool(torch.isfinite(rows).all()):
            raise DataError("a row holds a number that is not finite", where="front input")
        blocks = [rows.new_zeros((0, *self.output_shape))]
        for part in torch.split(rows, self.block_rows):
            # One shape for every call, as in `evaluate_row_blocks`.
            block = rows.new_zeros((self.block_rows, *rows.shape[1:]))
            block[: len(part)] = part
            blocks.append(self.operations(block)[: len(part)])
        out = torch.cat(blocks)
        if not bool(torch.isfinite(out).all()):
            raise DataError("the front gave a number that is not finite", where="front output")
        return out


class _OperationLayer(nn.Module):
    """One operation; its constants are buffers, those of a network are its layers' own."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        copy = restore_operation(operation.operation_settings(), operation.operation_tensors())
        self._operation: Any = copy
        self._constants: tuple[str, ...] = ()
        if isinstance(copy, Network):
            self.layers = copy.module.requires_grad_(False).eval()
            return
        self._constants = tuple(copy.operation_tensors())
        for name, tensor in copy.operation_tensors().items():
            self.register_buffer(name, tensor.clone())

    def forward(self, rows: Tensor) -> Tensor:
        # Buffers, for they may have moved to another device since.
        moved = {name: getattr(self, name) for name in self._constants}
        out: Tensor = (replace(self._operation, **moved) if moved else self._operation).apply(rows)
        return out

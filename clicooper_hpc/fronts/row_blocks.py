"""Evaluation of a front in blocks of one size, so that a row's bits do not depend on its batch.

A compute kernel may add the same numbers in another order when a batch has another size, so a row
evaluated among 10 rows and among 100 may differ in its last bits; through the release's rounding
that is a row that depends on its neighbours, which breaks the row-wise privacy proof. Here every
kernel sees one shape only: a block of ``block_rows`` rows, filled up with zeros. What is left is
that a kernel might treat the first row of a block differently from the last;
`is_row_independent` looks for exactly that, and where it finds it a front runs one row a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Operation, trace_operation_shapes
from clicooper_hpc.models.row_independence import RowPlacement, keeps_row_independence

__all__ = [
    "check_front_rows",
    "evaluate_row_blocks",
    "is_row_independent",
    "probe_rows",
    "safe_row_block",
]

_log = logging.getLogger("clicooper_hpc.fronts.front")

#: Numbers of a network's largest map that a block may have: twice as many run at half the speed.
_MOST_NUMBERS = 1 << 23

Block = Callable[[Tensor], Tensor]


def _apply(operations: Sequence[Operation], block: Tensor) -> Tensor:
    with torch.inference_mode():
        for operation in operations:
            block = operation.apply(block)
    return block


def evaluate_row_blocks(
    operations: Sequence[Operation],
    x: NDArray[np.float32],
    *,
    input_shape: tuple[int, ...],
    block_rows: int,
) -> NDArray[np.float32]:
    """Map rows ``x`` (float32 ``[n, *input_shape]``) to float32 ``[n, *output_shape]``.

    Raises
    ------
    DataError
        If the rows have another shape or type, or a number in or out is not finite.
    """
    check_front_rows(x, input_shape)
    out = np.empty((len(x), *trace_operation_shapes(operations, input_shape)), dtype=np.float32)
    # One shape for every call: kernels add in another order when a batch has another size.
    block = torch.zeros((block_rows, *input_shape), dtype=torch.float32)
    view = block.numpy()
    for start in range(0, len(x), block_rows):
        part = x[start : start + block_rows]
        view[: len(part)] = part
        # The rest of the last block is filled up, or rows of the block before would stand there.
        view[len(part) :] = 0.0
        out[start : start + len(part)] = _apply(operations, block)[: len(part)].numpy()
    # NaN has no nearest point of the clip set, so no guarantee.
    if not np.isfinite(out).all():
        raise DataError("the front gave a number that is not finite", where="front output")
    return out


def check_front_rows(x: NDArray[np.float32], input_shape: tuple[int, ...]) -> None:
    """Refuse rows that a front for ``input_shape`` cannot take.

    Raises
    ------
    DataError
        If the rows have another shape or type, or a number is not finite.
    """
    if x.shape[1:] != input_shape or x.dtype != np.float32:
        raise DataError(
            f"rows are {x.dtype} {x.shape[1:]}, the front takes float32 {input_shape}",
            where="front",
        )
    if not np.isfinite(x).all():
        raise DataError("a row holds a number that is not finite", where="front input")


def probe_rows(input_shape: tuple[int, ...], rows: int) -> NDArray[np.float32]:
    """Return fixed rows in [0, 1] to try a front on: zeros, ones, then pseudo-random ones."""
    probe = np.random.default_rng(0).random((max(rows, 2), *input_shape), dtype=np.float32)
    probe[0], probe[1] = 0.0, 1.0
    return probe[:rows]


def is_row_independent(function: Block, probe: Tensor) -> bool:
    """Whether ``function`` gives every probe row the same bits wherever it stands.

    The block is evaluated in its own order, rotated, reversed, permuted, and with single rows
    among zeros; ``function`` maps a block of ``len(probe)`` rows to as many rows.
    """
    rows = len(probe)
    reference = function(probe).clone()
    order = torch.arange(rows)
    shuffled = torch.from_numpy(np.random.default_rng(1).permutation(rows))

    def placements() -> Iterator[RowPlacement[Tensor]]:
        for moved in (order.roll(1), order.roll(max(rows // 2, 1)), order.flip(0), shuffled):
            yield RowPlacement(probe[moved].contiguous(), range(rows), moved.tolist())
        for row, place in (
            (0, rows - 1),
            (rows - 1, 0),
            (rows // 2, rows // 3),
            (1 % rows, 1 % rows),
        ):
            alone = torch.zeros_like(probe)
            alone[place] = probe[row]
            yield RowPlacement(alone, [place], [row])

    return keeps_row_independence(function, reference, placements(), same=torch.equal)


def safe_row_block(
    operations: Sequence[Operation], input_shape: tuple[int, ...], block_rows: int
) -> int:
    """Return how many rows a kernel is to see at once, at most ``block_rows``.

    Fewer where a network's maps are large, and 1 where a row's bits depend on its place on this
    machine.
    """
    if block_rows < 1:
        raise ValueError("block_rows must be at least 1")
    for operation in operations:
        if isinstance(operation, Network):
            fitting = max(1, _MOST_NUMBERS // operation.largest_row())
            # A power of two, for kernels work on several rows at once.
            block_rows = min(block_rows, 1 << (fitting.bit_length() - 1))
    probe = torch.from_numpy(probe_rows(input_shape, block_rows))
    # Looked for on this machine: whether place matters is the kernel's affair.
    if block_rows == 1 or is_row_independent(lambda block: _apply(operations, block), probe):
        return block_rows
    _log.warning(
        "a row's last bits depend on its place among %d rows on this machine: "
        "the front runs one row a call, slower and exact",
        block_rows,
    )
    return 1

"""The front: the owner's part of the network, from raw rows to the rows that are released.

A front is a short chain of operations fixed before the run. It must not depend on private data,
except through DP-SGD or noised class sums, or the row-wise guarantee of the release does not hold:
replacing one sample would move every row. `FrontOrigin` says which it is, or that the guarantee is
conditional.
`clicooper_hpc.fronts.build_front.build_front` makes fronts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.digests import Digest, digest_bytes, digest_chunks
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.layer_spec import walk_layers
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import (
    Operation,
    restore_operation,
    trace_operation_shapes,
)
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.fronts.row_blocks import (
    check_front_rows,
    evaluate_row_blocks,
    probe_rows,
    safe_row_block,
)
from clicooper_hpc.fronts.row_memory import RowMemory

__all__ = ["Front", "assemble_front", "restore_front"]

_DIGEST_TAG = "clicooper/v1/front"
_PROBE_TAG = "clicooper/v1/front-probe"


@dataclass(frozen=True, slots=True)
class Front:
    """A fixed map from raw rows to rows of the release.

    Attributes
    ----------
    input_shape, output_shape
        Shapes of one row before and after.
    non_negative
        Every output is >= 0 by construction (the last operation that can change a sign is a ReLU
        or clamp), so the smaller sensitivity sqrt(2) C applies.
    digest
        Over all settings and weights: equal digests are equal fronts.
    probe
        Digest of what this machine computes for fixed probe rows. A resumed run compares it:
        another value means other bits for the same row.
    block_rows
        Rows a kernel sees at once.
    memory
        Outputs of public rows, so that these are not computed again; None where there are none.
        Never stored.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    non_negative: bool
    origin: FrontOrigin
    digest: Digest
    probe: Digest
    block_rows: int
    operations: tuple[Operation, ...] = field(repr=False, compare=False)
    memory: RowMemory | None = field(default=None, repr=False, compare=False)

    @property
    def normalisation(self) -> str:
        """``"frozen statistics"`` or ``"none"``."""
        return self.origin.normalisation

    def apply(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map float32 ``[n, *input_shape]`` to float32 ``[n, *output_shape]``.

        A row's bits depend on that row alone: not on how many others there are, nor on their
        order or values.

        Raises
        ------
        DataError
            If shape or type differ, or a number in or out is not finite.
        """
        if self.memory is None:
            return self._evaluate(self.operations, x, self.input_shape)
        check_front_rows(x, self.input_shape)
        places = self.memory.recall(x)
        known = places >= 0
        out = np.empty((len(x), *self.output_shape), dtype=np.float32)
        if not known.all():
            out[~known] = self._evaluate(self.operations, x[~known], self.input_shape)
        if known.any():
            seen = self.memory.outputs[places[known]]
            rest = self.operations[self.memory.operations :]
            out[known] = self._evaluate(rest, seen, seen.shape[1:])
        return out

    def remember_rows(
        self, rows: NDArray[np.float32], outputs: NDArray[np.float32], operations: int
    ) -> Front:
        """Return this front with a memory of public ``rows``, float32 ``[n, *input_shape]``.

        ``outputs``: what the first ``operations`` operations give for them.
        """
        rest = self.operations[operations:]
        ends = self._evaluate(rest, outputs, outputs.shape[1:])
        return replace(self, memory=RowMemory.remember(rows, ends, len(self.operations)))

    def _evaluate(
        self, operations: Sequence[Operation], x: NDArray[np.float32], shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        return evaluate_row_blocks(operations, x, input_shape=shape, block_rows=self.block_rows)

    def front_tensors(self) -> dict[str, Tensor]:
        """Return all constants by name, for ``private/``; `front_settings` completes them."""
        return {
            f"{index}.{name}": tensor
            for index, operation in enumerate(self.operations)
            for name, tensor in operation.operation_tensors().items()
        }

    def front_settings(self) -> str:
        """Return everything but the tensors, as one JSON text for `restore_front`."""
        content = {
            "version": 1,
            "input_shape": list(self.input_shape),
            "stages": [operation.operation_settings() for operation in self.operations],
            "provenance": self.origin.origin_to_dict(),
            "digest": self.digest.hex,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)


def _digest(input_shape: tuple[int, ...], operations: Sequence[Operation]) -> Digest:
    """Digest settings (sorted JSON), then each tensor's name, type, shape and bytes."""
    # The noise of a release is keyed by this digest, so its words ("stages", "stage") never change:
    # a stored run would release other bits.
    settings = {
        "input_shape": list(input_shape),
        "stages": [operation.operation_settings() for operation in operations],
    }
    chunks = [json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()]
    for index, operation in enumerate(operations):
        for name, tensor in sorted(operation.operation_tensors().items()):
            array = tensor.detach().contiguous().numpy()
            # Little-endian, so that machines of either byte order agree on the digest.
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            head = f"\n{index}.{name} {little.dtype.str} {list(little.shape)}\n"
            chunks += [head.encode(), little.tobytes()]
    return digest_chunks(_DIGEST_TAG, chunks)


def assemble_front(
    input_shape: tuple[int, ...],
    operations: Sequence[Operation],
    origin: FrontOrigin,
    *,
    block_rows: int = 64,
) -> Front:
    """Check that the operations fit, fix the block size for this machine, put the front together.

    ``origin.normalisation`` is set here, from the operations.
    """
    shape = trace_operation_shapes(operations, input_shape)
    non_negative = False
    # In order: each operation knows what it makes of non-negative rows, and the last one decides.
    for operation in operations:
        non_negative = operation.non_negative(non_negative)
    # BatchNorm in evaluation mode uses stored statistics, so rows of a batch stay apart; the card
    # says which it was.
    frozen = any(
        isinstance(operation, Network)
        and any(layer.type == "BatchNorm2d" for layer in walk_layers(operation.layers))
        for operation in operations
    )
    normalisation = "frozen statistics" if frozen else "none"
    block = safe_row_block(operations, input_shape, block_rows)
    # Stored with the run: a restart on a machine that computes other bits would be a second
    # release.
    seen = evaluate_row_blocks(
        operations, probe_rows(input_shape, block_rows), input_shape=input_shape, block_rows=block
    )
    return Front(
        input_shape=input_shape,
        output_shape=shape,
        non_negative=non_negative,
        origin=replace(origin, normalisation=normalisation),
        digest=_digest(input_shape, operations),
        probe=digest_bytes(_PROBE_TAG, seen.tobytes()),
        block_rows=block,
        operations=tuple(operations),
    )


def restore_front(settings: str, tensors: Mapping[str, Tensor], *, block_rows: int = 64) -> Front:
    """Rebuild a front from `Front.front_settings` and `Front.front_tensors`.

    A front that cost privacy is restored, never made again: that would spend again.

    Raises
    ------
    DataError
        If anything is missing or the digest is not the stored one.
    """
    where = "stored front"
    try:
        content = json.loads(settings)
        operations: list[Operation] = []
        for index, operation in enumerate(content["stages"]):
            start = f"{index}."
            own = {
                name.removeprefix(start): tensor
                for name, tensor in tensors.items()
                if name.startswith(start)
            }
            operations.append(restore_operation(operation, own))
        input_shape = tuple(int(size) for size in content["input_shape"])
        origin = FrontOrigin.origin_from_dict(content["provenance"])
        intact = _digest(input_shape, operations).hex == content["digest"]
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        raise DataError(f"damaged: {error}", where=where) from error
    # Other weights would release other rows under receipts and noise of these. Said before rows of
    # whatever shape stands there are made up to probe the operations.
    if not intact:
        raise DataError("the weights are not the ones that were stored", where=where)
    return assemble_front(input_shape, operations, origin, block_rows=block_rows)

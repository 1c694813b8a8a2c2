"""The front as a value: the owner's part of the network, from raw rows to release rows.

A front is a short chain of stages fixed before the run. It must not depend on private data, except
through DP-SGD or noised class sums, or the row-wise guarantee of the release does not hold:
replacing one sample would move every row. `Provenance` says which it is, or that the guarantee is
conditional.
`clicooper_hpc.fronts.build.build_front` makes fronts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.digests import Digest, digest_bytes, digest_chunks
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.operations import Network, Operation, stage_from
from clicooper_hpc.fronts.row_blocks import evaluate_rows, output_shape, probe_rows, safe_block
from clicooper_hpc.privacy.spec import ReleaseSpec

__all__ = ["Front", "Provenance", "ProvenanceKind", "Spending", "assemble_front", "restore_front"]

ProvenanceKind = Literal["public-weights", "random", "fixed-basis", "dp-sgd", "identity"]

_DIGEST_TAG = "clicooper/v1/front"
_PROBE_TAG = "clicooper/v1/front-probe"


@dataclass(frozen=True, slots=True)
class Spending:
    """Training samples that paid for the projection with their class sums, and are never released.

    ``spec`` is the mechanism of the sums; None where privacy is off and the sums are exact.
    """

    samples: int
    spec: ReleaseSpec | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Why the front is, or is not, independent of the private data.

    Parameters
    ----------
    kind, text
        Where the front itself comes from, as a word and as a line.
    normalisation
        ``"frozen statistics"`` where BatchNorm runs on stored statistics, else ``"none"``.
    projection
        What a fitted projection was fitted on, if there is one.
    conditional, reason
        Whether the guarantee holds only given the front, and why.
    epsilon, delta
        Price of DP-SGD under add-remove, on top of the release's; None for every other kind.
    spent
        The samples a private projection was paid with, if there is one.
    """

    kind: ProvenanceKind
    text: str
    normalisation: str = "none"
    projection: str | None = None
    conditional: bool = False
    reason: str | None = None
    epsilon: float | None = None
    delta: float | None = None
    spent: Spending | None = None

    @property
    def is_private(self) -> bool:
        """Whether the front was computed from private samples, so that only its owner has it."""
        return self.kind == "dp-sgd" or self.spent is not None


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
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    non_negative: bool
    provenance: Provenance
    digest: Digest
    probe: Digest
    block_rows: int
    stages: tuple[Operation, ...] = field(repr=False, compare=False)

    @property
    def normalisation(self) -> str:
        """``"frozen statistics"`` or ``"none"``."""
        return self.provenance.normalisation

    def rows(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map float32 ``[n, *input_shape]`` to float32 ``[n, *output_shape]``.

        A row's bits depend on that row alone: not on how many others there are, nor on their
        order or values.

        Raises
        ------
        DataError
            If shape or type differ, or a number in or out is not finite.
        """
        return evaluate_rows(
            self.stages, x, input_shape=self.input_shape, block_rows=self.block_rows
        )

    def private_tensors(self) -> dict[str, Tensor]:
        """Return all constants by name, for ``private/``; `settings` completes them."""
        return {
            f"{index}.{name}": tensor
            for index, stage in enumerate(self.stages)
            for name, tensor in stage.tensors().items()
        }

    def settings(self) -> str:
        """Return everything but the tensors, as one JSON text for `restore_front`."""
        content = {
            "version": 1,
            "input_shape": list(self.input_shape),
            "stages": [stage.settings() for stage in self.stages],
            "provenance": _provenance_to_dict(self.provenance),
            "digest": self.digest.hex,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)


def _digest(input_shape: tuple[int, ...], stages: Sequence[Operation]) -> Digest:
    """Digest settings (sorted JSON), then each tensor's name, type, shape and bytes."""
    settings = {"input_shape": list(input_shape), "stages": [stage.settings() for stage in stages]}
    chunks = [json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()]
    for index, stage in enumerate(stages):
        for name, tensor in sorted(stage.tensors().items()):
            array = tensor.detach().contiguous().numpy()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            head = f"\n{index}.{name} {little.dtype.str} {list(little.shape)}\n"
            chunks += [head.encode(), little.tobytes()]
    return digest_chunks(_DIGEST_TAG, chunks)


def assemble_front(
    input_shape: tuple[int, ...],
    stages: Sequence[Operation],
    provenance: Provenance,
    *,
    block_rows: int = 64,
) -> Front:
    """Check that the stages fit, fix the block size for this machine, put the front together.

    ``provenance.normalisation`` is set here, from the stages.
    """
    shape = output_shape(stages, input_shape)
    non_negative = False
    for stage in stages:
        non_negative = stage.non_negative(non_negative)
    frozen = any(
        isinstance(stage, Network) and any(layer.type == "BatchNorm2d" for layer in stage.layers)
        for stage in stages
    )
    normalisation = "frozen statistics" if frozen else "none"
    block = safe_block(stages, input_shape, block_rows)
    seen = evaluate_rows(
        stages, probe_rows(input_shape, block_rows), input_shape=input_shape, block_rows=block
    )
    return Front(
        input_shape=input_shape,
        output_shape=shape,
        non_negative=non_negative,
        provenance=replace(provenance, normalisation=normalisation),
        digest=_digest(input_shape, stages),
        probe=digest_bytes(_PROBE_TAG, seen.tobytes()),
        block_rows=block,
        stages=tuple(stages),
    )


def restore_front(settings: str, tensors: Mapping[str, Tensor], *, block_rows: int = 64) -> Front:
    """Rebuild a front from `Front.settings` and `Front.private_tensors`.

    A front that cost privacy is restored, never made again: that would spend again.

    Raises
    ------
    DataError
        If anything is missing or the digest is not the stored one.
    """
    where = "stored front"
    try:
        content = json.loads(settings)
        stages: list[Operation] = []
        for index, stage in enumerate(content["stages"]):
            start = f"{index}."
            own = {
                name.removeprefix(start): tensor
                for name, tensor in tensors.items()
                if name.startswith(start)
            }
            stages.append(stage_from(stage, own))
        input_shape = tuple(int(size) for size in content["input_shape"])
        provenance = _provenance_from_dict(content["provenance"])
        stored = str(content["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged: {error}", where=where) from error
    front = assemble_front(input_shape, stages, provenance, block_rows=block_rows)
    if front.digest.hex != stored:
        raise DataError("the weights are not the ones that were stored", where=where)
    return front


def _provenance_to_dict(provenance: Provenance) -> dict[str, Any]:
    spent = provenance.spent
    if spent is None:
        return asdict(provenance)
    spec = None if spent.spec is None else spent.spec.to_dict()
    plain = asdict(replace(provenance, spent=None))
    return {**plain, "spent": {"samples": spent.samples, "spec": spec}}


def _provenance_from_dict(stored: Mapping[str, Any]) -> Provenance:
    plain, spent = dict(stored), stored.get("spent")
    if spent is not None:
        spec = None if spent["spec"] is None else ReleaseSpec.from_dict(spent["spec"])
        plain["spent"] = Spending(int(spent["samples"]), spec)
    return Provenance(**plain)

"""The front: the owner's part of the network, from raw rows to rows of the release.

A front is a short chain of stages fixed before the run. It must not depend on private data, except
through DP-SGD, or the row-wise guarantee of the release does not hold: replacing one sample would
move every row. `Provenance` says which of the two it is, or that the guarantee is conditional.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.digests import Digest, digest_bytes, digest_chunks
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.owner.front_dpsgd import DpSgd, PrivateRows, train_dpsgd
from clicooper_hpc.owner.front_projection import Projection, PublicRows, fit_projection
from clicooper_hpc.owner.front_random import dct_stages, identity_stages, random_stages
from clicooper_hpc.owner.front_rows import evaluate_rows, output_shape, probe_rows, safe_block
from clicooper_hpc.owner.front_stages import Network, Scale, Stage, stage_from
from clicooper_hpc.owner.front_weights import load_weights

__all__ = ["FRONT_KINDS", "Front", "FrontKind", "Provenance", "build_front", "restore_front"]

FrontKind = Literal["identity", "weights", "random", "dct", "dp-sgd"]
FRONT_KINDS: tuple[FrontKind, ...] = ("identity", "weights", "random", "dct", "dp-sgd")
ProvenanceKind = Literal["public-weights", "random", "fixed-basis", "dp-sgd", "identity"]

_DIGEST_TAG = "clicooper.front.v1"
_PROBE_TAG = "clicooper.front.probe.v1"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Why the front is, or is not, independent of the private data.

    ``epsilon`` and ``delta`` are the price of DP-SGD under replace-one, to be added to the
    release's; None for every other kind.
    """

    kind: ProvenanceKind
    text: str
    projection: str | None = None
    conditional: bool = False
    reason: str | None = None
    epsilon: float | None = None
    delta: float | None = None


@dataclass(frozen=True, slots=True)
class Front:
    """A fixed map from raw rows to rows of the release; build it with `build_front`.

    Attributes
    ----------
    input_shape, output_shape
        Shapes of one row before and after.
    non_negative
        Every output is >= 0 by construction (the last operation that can change a sign is a ReLU
        or clamp), so the smaller sensitivity sqrt(2) C applies.
    normalisation
        ``"frozen statistics"`` where BatchNorm runs on stored statistics, else ``"none"``.
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
    normalisation: str
    provenance: Provenance
    digest: Digest
    probe: Digest
    block_rows: int
    stages: tuple[Stage, ...] = field(repr=False, compare=False)

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
        """All constants by name, for ``private/``; with `settings` they rebuild the front."""
        return {
            f"{index}.{name}": tensor
            for index, stage in enumerate(self.stages)
            for name, tensor in stage.tensors().items()
        }

    def settings(self) -> str:
        """Everything but the tensors, as one JSON text for `restore_front`."""
        content = {
            "version": 1,
            "input_shape": list(self.input_shape),
            "stages": [stage.settings() for stage in self.stages],
            "provenance": asdict(self.provenance),
            "digest": self.digest.hex,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)


def _digest(input_shape: tuple[int, ...], stages: Sequence[Stage]) -> Digest:
    """Digest settings (canonical JSON), then each tensor's name, type, shape and bytes."""
    settings = {"input_shape": list(input_shape), "stages": [stage.settings() for stage in stages]}
    chunks = [json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()]
    for index, stage in enumerate(stages):
        for name, tensor in sorted(stage.tensors().items()):
            array = tensor.detach().contiguous().numpy()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            head = f"\n{index}.{name} {little.dtype.str} {list(little.shape)}\n"
            chunks += [head.encode(), little.tobytes()]
    return digest_chunks(_DIGEST_TAG, chunks)


def _assemble(
    input_shape: tuple[int, ...],
    stages: Sequence[Stage],
    provenance: Provenance,
    block_rows: int,
) -> Front:
    """Fix the block size for this machine and put the front together."""
    shape = output_shape(stages, input_shape)
    non_negative = False
    for stage in stages:
        non_negative = stage.non_negative(non_negative)
    frozen = any(
        isinstance(stage, Network) and any(layer.type == "BatchNorm2d" for layer in stage.layers)
        for stage in stages
    )
    block = safe_block(stages, input_shape, block_rows)
    seen = evaluate_rows(
        stages, probe_rows(input_shape, block_rows), input_shape=input_shape, block_rows=block
    )
    return Front(
        input_shape=input_shape,
        output_shape=shape,
        non_negative=non_negative,
        normalisation="frozen statistics" if frozen else "none",
        provenance=provenance,
        digest=_digest(input_shape, stages),
        probe=digest_bytes(_PROBE_TAG, seen.tobytes()),
        block_rows=block,
        stages=tuple(stages),
    )


def _base(
    kind: FrontKind,
    input_shape: tuple[int, ...],
    *,
    seed: int,
    weights: Path | None,
    cut: int | None,
    dim: int | None,
    flatten: bool,
    dp_sgd: DpSgd | None,
    private: PrivateRows | None,
) -> tuple[tuple[Stage, ...], Provenance]:
    """Stages of the front before any projection, and where they come from."""
    if kind == "identity":
        return identity_stages(flatten), Provenance("identity", "the row itself")
    if kind == "dct":
        return dct_stages(input_shape, dim), Provenance("fixed-basis", f"{dim} low DCT frequencies")
    if kind == "random":
        text = f"random features from seed {seed}"
        return random_stages(input_shape, dim, seed), Provenance("random", text)
    if kind == "weights":
        if weights is None:
            raise UsageError("this kind of front needs a weights file", where="front.weights")
        file = load_weights(weights, cut)
        kept = len(file.network.layers)
        text = f"{file.name}, layers 0 to {kept - 1} of {file.layers_in_file}"
        if file.trained_on is None:
            reason = f"{file.name} does not say what it was trained on"
            return (file.network,), Provenance("public-weights", text, None, True, reason)
        return (file.network,), Provenance(
            "public-weights", f"{text}, trained on {file.trained_on}"
        )
    if kind == "dp-sgd":
        if dp_sgd is None or private is None:
            raise UsageError("this kind of front needs its settings and rows", where="front.dp_sgd")
        if dp_sgd.layers is None and dim is None:
            raise UsageError("this kind of front needs a number of features", where="front.dim")
        network, spent = train_dpsgd(
            private, dp_sgd, input_shape=input_shape, dim=dim or 0, seed=seed
        )
        text = (
            f"DP-SGD on the private train split: {spent.steps} steps, Poisson rate "
            f"{spent.sample_rate:.6g}, noise multiplier {spent.noise_multiplier:.6g}, clip "
            f"{dp_sgd.clip_norm:g}, PRV accountant, replace-one from add-remove by group privacy"
        )
        price = Provenance("dp-sgd", text, epsilon=spent.epsilon, delta=spent.delta)
        return (network,), price
    raise UsageError(f"{kind!r} is not one of {list(FRONT_KINDS)}", where="front.kind")


def build_front(
    *,
    kind: FrontKind,
    input_shape: tuple[int, ...],
    seed: int = 0,
    weights: Path | None = None,
    cut: int | None = None,
    dim: int | None = None,
    flatten: bool = True,
    projection: Projection | None = None,
    public: PublicRows | None = None,
    private_fingerprint: Digest | None = None,
    dp_sgd: DpSgd | None = None,
    private: PrivateRows | None = None,
    normalise: float | None = None,
    block_rows: int = 64,
) -> Front:
    """Build a front and check it on this machine.

    Parameters
    ----------
    kind
        ``"identity"`` (``flatten``), ``"weights"`` (``weights``, ``cut`` = number of layers kept),
        ``"random"`` (``seed``, ``dim``), ``"dct"`` (``dim``) or ``"dp-sgd"`` (``dp_sgd``,
        ``private``, ``dim``, ``seed``).
    input_shape
        Shape of one raw row.
    projection, public
        PCA or LDA fitted on public rows pulled through the front.
    private_fingerprint
        Fingerprint of the private data set. Where it equals the public one's, or is not given,
        the guarantee is conditional and `Provenance` says so.
    normalise
        Scale every row to this L2 norm (the release's clip norm); zero rows stay zero.
    block_rows
        Rows a kernel sees at once; falls back to 1 where a row's bits depend on its place.

    Raises
    ------
    UsageError
        For settings that are missing or impossible.
    DataError
        For weights or public rows that are missing, damaged or of another shape.
    """
    stages, provenance = _base(
        kind,
        input_shape,
        seed=seed,
        weights=weights,
        cut=cut,
        dim=dim,
        flatten=flatten,
        dp_sgd=dp_sgd,
        private=private,
    )
    if projection is not None:
        if public is None:
            raise UsageError("a projection needs public data to be fitted on", where="front.public")
        stages, provenance = _project(
            stages, provenance, projection, public, private_fingerprint, input_shape, block_rows
        )
    if normalise is not None:
        if not 0 < normalise < float("inf"):
            raise UsageError("the norm must be positive", where="front.normalise")
        stages = (*stages, Scale(float(normalise)))
    return _assemble(input_shape, stages, provenance, block_rows)


def _project(
    stages: tuple[Stage, ...],
    provenance: Provenance,
    wanted: Projection,
    public: PublicRows,
    private_fingerprint: Digest | None,
    input_shape: tuple[int, ...],
    block_rows: int,
) -> tuple[tuple[Stage, ...], Provenance]:
    """Append the fitted projection and say what it was fitted on."""
    block = safe_block(stages, input_shape, block_rows)
    features = evaluate_rows(stages, public.rows, input_shape=input_shape, block_rows=block)
    linear = fit_projection(features, public.labels, wanted)
    reasons = [provenance.reason] if provenance.reason else []
    if private_fingerprint is None:
        reasons.append(f"{public.name} was not compared with the private data")
    elif private_fingerprint == public.fingerprint:
        reasons.append(f"the projection was fitted on the private data itself ({public.name})")
    text = (
        f"{wanted.method.upper()} to {wanted.dim} coordinates, whitening {wanted.whiten:g}, "
        f"fitted on {len(public.rows)} rows of {public.name}"
    )
    projected = Provenance(
        kind=provenance.kind,
        text=provenance.text,
        projection=text,
        conditional=bool(reasons),
        reason="; ".join(reasons) or None,
        epsilon=provenance.epsilon,
        delta=provenance.delta,
    )
    return (*stages, linear), projected


def restore_front(settings: str, tensors: Mapping[str, Tensor], *, block_rows: int = 64) -> Front:
    """Rebuild a front from `Front.settings` and `Front.private_tensors`.

    A DP-SGD front is restored, never trained again: training again would spend again.

    Raises
    ------
    DataError
        If anything is missing or the digest is not the stored one.
    """
    where = "stored front"
    try:
        content = json.loads(settings)
        stages: list[Stage] = []
        for index, stage in enumerate(content["stages"]):
            start = f"{index}."
            own = {
                name.removeprefix(start): tensor
                for name, tensor in tensors.items()
                if name.startswith(start)
            }
            stages.append(stage_from(stage, own))
        input_shape = tuple(int(size) for size in content["input_shape"])
        provenance = Provenance(**content["provenance"])
        stored = str(content["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged: {error}", where=where) from error
    front = _assemble(input_shape, stages, provenance, block_rows)
    if front.digest.hex != stored:
        raise DataError("the weights are not the ones that were stored", where=where)
    return front

"""Making a front from plain values.

A front must not depend on private data, except through DP-SGD or noised class sums;
`Front.provenance` says where it comes from, or that the guarantee of a release is conditional on
it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.dpsgd import DpSgd, PrivateRows, train_dpsgd
from clicooper_hpc.fronts.front import Front, Provenance, assemble_front
from clicooper_hpc.fronts.operations import Operation, Scale
from clicooper_hpc.fronts.private_lda import Spend, discriminant_stages
from clicooper_hpc.fronts.projection import Projection, PublicRows, fit_projection
from clicooper_hpc.fronts.row_blocks import evaluate_rows, safe_block
from clicooper_hpc.fronts.untrained import (
    dct_stages,
    identity_stages,
    random_stages,
    takes_convolutions,
)
from clicooper_hpc.fronts.weights import load_weights

__all__ = ["FRONT_KINDS", "FrontKind", "build_front"]

FrontKind = Literal["identity", "weights", "random", "dct", "dp-sgd"]
FRONT_KINDS: tuple[FrontKind, ...] = ("identity", "weights", "random", "dct", "dp-sgd")


@dataclass(frozen=True, slots=True)
class _Base:
    """What is asked of the front before any projection."""

    kind: FrontKind
    input_shape: tuple[int, ...]
    seed: int
    weights: Path | None
    cut: int | None
    dim: int | None
    flatten: bool


def _weights(base: _Base) -> tuple[tuple[Operation, ...], Provenance]:
    if base.weights is None:
        raise UsageError("this kind of front needs a weights file", where="front.weights")
    file = load_weights(base.weights, base.cut)
    last = len(file.network.layers) - 1
    text = f"{file.name}, layers 0 to {last} of {file.layers_in_file}"
    if file.trained_on is not None:
        text = f"{text}, trained on {file.trained_on}"
        return (file.network,), Provenance("public-weights", text)
    reason = f"{file.name} does not say what it was trained on"
    return (file.network,), Provenance("public-weights", text, conditional=True, reason=reason)


def _untrained(base: _Base) -> tuple[tuple[Operation, ...], Provenance]:
    """Stages of every kind that sees no private row."""
    if base.kind == "identity":
        return identity_stages(base.flatten), Provenance("identity", "the row itself")
    if base.kind == "dct":
        stages = dct_stages(base.input_shape, base.dim)
        return stages, Provenance("fixed-basis", f"{base.dim} low DCT frequencies")
    if base.kind == "random":
        stages = random_stages(base.input_shape, base.dim, base.seed)
        return stages, Provenance("random", f"features from seed {base.seed}")
    if base.kind == "weights":
        return _weights(base)
    raise UsageError(f"{base.kind!r} is not one of {list(FRONT_KINDS)}", where="front.kind")


def _trained(
    base: _Base, settings: DpSgd | None, private: PrivateRows | None
) -> tuple[tuple[Operation, ...], Provenance]:
    if settings is None or private is None:
        raise UsageError("this kind of front needs its settings and rows", where="front.dp_sgd")
    if settings.layers is None and base.dim is None:
        raise UsageError("this kind of front needs a number of features", where="front.dim")
    network, spent = train_dpsgd(
        private, settings, input_shape=base.input_shape, dim=base.dim or 0, seed=base.seed
    )
    text = (
        f"{spent.steps} steps, Poisson rate {spent.sample_rate:.6g}, "
        f"noise multiplier {spent.noise_multiplier:.6g}, clip {settings.clip_norm:g}, "
        "PRV accountant"
    )
    price = Provenance("dp-sgd", text, epsilon=spent.epsilon, delta=spent.delta)
    return (network,), price


def _project(
    stages: tuple[Operation, ...],
    provenance: Provenance,
    wanted: Projection,
    public: PublicRows,
    private_fingerprint: Digest | None,
    spend: Spend | None,
    base: _Base,
    block_rows: int,
) -> tuple[tuple[Operation, ...], Provenance]:
    """Append the fitted projection and say what it was fitted on."""
    block = safe_block(stages, base.input_shape, block_rows)
    features = evaluate_rows(stages, public.rows, input_shape=base.input_shape, block_rows=block)
    private = wanted.method == "private-lda"
    linear = fit_projection(
        features, public.labels, Projection("pca", None, wanted.whiten) if private else wanted
    )
    reasons = [provenance.reason] if provenance.reason else []
    if private_fingerprint is None:
        reasons.append(f"{public.name} was not compared with the private data")
    elif private_fingerprint == public.fingerprint:
        reasons.append(f"the projection was fitted on the private data itself ({public.name})")
    elif public.shared:
        reasons.append(f"{public.shared} rows of {public.name} are private rows too")
    method = "PCA" if private else wanted.method.upper()
    text = (
        f"{method} to {linear.matrix.shape[1]} coordinates, whitening {wanted.whiten:g}, "
        f"fitted on {len(public.rows)} rows of {public.name}"
    )
    projected = replace(
        provenance,
        projection=text,
        conditional=bool(reasons),
        reason="; ".join(reasons) or None,
    )
    if not private:
        return (*stages, linear), projected
    if spend is None or public.labels is None:
        raise UsageError(
            "this projection needs private samples to spend and public labels",
            where="front.projection",
        )
    before = assemble_front(
        base.input_shape, (*stages, linear, Scale(1.0)), projected, block_rows=block_rows
    )
    rows = evaluate_rows(
        before.stages[-2:], features, input_shape=features.shape[1:], block_rows=block
    )
    return discriminant_stages(before, rows, public.labels, spend)


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
    spend: Spend | None = None,
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
    spend
        What gives the class means of a private LDA; called once.
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
    if projection is not None and kind == "random" and takes_convolutions(input_shape):
        dim = None  # the pooled maps go into the projection whole
    base = _Base(kind, input_shape, seed, weights, cut, dim, flatten)
    made = _trained(base, dp_sgd, private) if kind == "dp-sgd" else _untrained(base)
    stages, provenance = made
    if projection is not None:
        if public is None:
            raise UsageError("a projection is fitted on public data", where="front.public_data")
        stages, provenance = _project(
            stages, provenance, projection, public, private_fingerprint, spend, base, block_rows
        )
    if normalise is not None:
        if not 0 < normalise < float("inf"):
            raise UsageError("the norm must be positive", where="front.normalise")
        stages = (*stages, Scale(float(normalise)))
    return assemble_front(input_shape, stages, provenance, block_rows=block_rows)

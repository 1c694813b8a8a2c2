"""Making a front: a base, perhaps a projection fitted behind it, perhaps scaling to one norm.

A front must not depend on private data, except through DP-SGD or noised class sums;
`Front.origin` says where it comes from, or that the guarantee of a release is conditional on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.read_out import ReadOut
from clicooper_hpc.digests import Digest
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.delivered_network import DeliveredNetwork
from clicooper_hpc.fronts.dpsgd_settings import DpSgdSettings, PrivateRows
from clicooper_hpc.fronts.front import Front, assemble_front
from clicooper_hpc.fronts.operations import Operation, Resize, Scale
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.fronts.private_lda import ClassMeansSource, append_private_lda
from clicooper_hpc.fronts.projection import Projection, PublicRows, fit_projection
from clicooper_hpc.fronts.row_blocks import evaluate_row_blocks, safe_row_block
from clicooper_hpc.fronts.untrained import (
    untrained_dct,
    untrained_identity,
    untrained_random_features,
    untrained_uses_convolutions,
)
from clicooper_hpc.fronts.value_scaling import ValueScaling
from clicooper_hpc.fronts.weights import load_weights

__all__ = [
    "FRONT_KINDS",
    "DpSgdTraining",
    "FrontBase",
    "FrontKind",
    "ProjectionData",
    "build_front",
    "front_base_origin",
]

FrontKind = Literal["identity", "weights", "run", "random", "dct", "dp-sgd"]
FRONT_KINDS: tuple[FrontKind, ...] = ("identity", "weights", "run", "random", "dct", "dp-sgd")

#: The operations of a front so far, and where they come from.
_Made = tuple[tuple[Operation, ...], FrontOrigin]


@dataclass(frozen=True, slots=True)
class FrontBase:
    """The front before any projection.

    Parameters
    ----------
    kind
        ``"identity"`` (``flatten``), ``"weights"`` (``weights``, and ``cut`` = number of layers
        kept or ``read_outs``, perhaps ``resize``, ``mirror``), ``"run"`` (``delivered``, and the
        same), ``"random"`` (``seed``, ``dim``), ``"dct"`` (``dim``) or ``"dp-sgd"`` (``dim``,
        ``seed``, and a `DpSgdTraining`).
    input_shape
        Shape of one raw row.
    scaling
        Of values, before everything else.
    doubts
        Why a raw row may depend on others.
    """

    kind: FrontKind
    input_shape: tuple[int, ...]
    seed: int = 0
    weights: Path | None = None
    delivered: DeliveredNetwork | None = None
    cut: int | None = None
    read_outs: tuple[ReadOut, ...] = ()
    resize: int | None = None
    mirror: bool = False
    dim: int | None = None
    flatten: bool = True
    scaling: ValueScaling | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DpSgdTraining:
    """What a ``"dp-sgd"`` base is trained with, and on."""

    settings: DpSgdSettings
    private: PrivateRows


@dataclass(frozen=True, slots=True)
class ProjectionData:
    """A projection behind the base, and the data it is fitted on.

    Parameters
    ----------
    wanted, public
        PCA or LDA fitted on public rows pulled through the base.
    private_fingerprint
        Fingerprint of the private data set. Where it equals the public one's, or is not given,
        the guarantee is conditional and `FrontOrigin` says so.
    class_means
        What gives the class means of a private LDA; called once.
    """

    wanted: Projection
    public: PublicRows | None
    private_fingerprint: Digest | None = None
    class_means: ClassMeansSource | None = None


def build_front(
    base: FrontBase,
    *,
    projection: ProjectionData | None = None,
    training: DpSgdTraining | None = None,
    normalise: float | None = None,
    block_rows: int = 64,
) -> Front:
    """Build a front and check it on this machine.

    Parameters
    ----------
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
    convolutions = untrained_uses_convolutions(base.input_shape)
    if projection is not None and base.kind == "random" and convolutions:
        # The pooled maps go into the fitted projection whole, not through a random one first.
        base = replace(base, dim=None)
    made = _train_base(base, training) if base.kind == "dp-sgd" else _make_base(base)
    made = _behind_scaling(base, made)
    before, features = len(made[0]), None
    if projection is not None:
        made, features = _append_projection(made, projection, base.input_shape, block_rows)
    operations, origin = made
    if normalise is not None:
        if not 0 < normalise < float("inf"):
            raise UsageError("the norm must be positive", where="front.normalise")
        operations = (*operations, Scale(float(normalise)))
    front = assemble_front(base.input_shape, operations, origin, block_rows=block_rows)
    if projection is None or projection.public is None or features is None:
        return front
    return front.remember_rows(projection.public.rows, features, before)


def front_base_origin(base: FrontBase) -> FrontOrigin:
    """Return where the front before any projection comes from, of every kind but ``"dp-sgd"``.

    Raises
    ------
    UsageError, DataError
        As `build_front`.
    """
    return _behind_scaling(base, _make_base(base))[1]


def _make_base(base: FrontBase) -> _Made:
    """Return the base of every kind that sees no private row."""
    if base.kind == "identity":
        # Values around 0 are not cut at 0: nothing bounds them but the clip of the release.
        centred = base.scaling is not None and base.scaling.centred
        operations = () if centred and not base.flatten else untrained_identity(base.flatten)
        return operations, FrontOrigin("identity", "the row itself")
    if base.kind == "dct":
        operations = untrained_dct(base.input_shape, base.dim)
        return operations, FrontOrigin("fixed-basis", f"{base.dim} low DCT frequencies")
    if base.kind == "random":
        operations = untrained_random_features(base.input_shape, base.dim, base.seed)
        return operations, FrontOrigin("random", f"features from seed {base.seed}")
    if base.kind == "weights":
        return _load_base(base)
    if base.kind == "run":
        return _delivered_base(base)
    raise UsageError(f"{base.kind!r} is not one of {list(FRONT_KINDS)}", where="front.kind")


def _behind_scaling(base: FrontBase, made: _Made) -> _Made:
    """Return the operations behind the scaling of values, and say what is doubtful of the rows."""
    operations, origin = made
    if base.scaling is not None:
        if base.scaling.centred and base.kind in ("weights", "run"):
            raise UsageError(
                f'the network of front.kind = "{base.kind}" takes numbers from 0 to 1, not around '
                "0",
                where="data.scaling",
                remedy="Scale by data.constants.minimum and maximum, or not at all.",
            )
        operations = (base.scaling.affine, *operations)
        origin = replace(origin, text=f"{origin.text}, {base.scaling.text}")
    if base.doubts:
        reasons = [origin.reason] if origin.reason else []
        origin = replace(origin, conditional=True, reason="; ".join([*reasons, *base.doubts]))
    return operations, origin


def _load_base(base: FrontBase) -> _Made:
    if base.weights is None:
        raise UsageError("this kind of front needs a weights file", where="front.weights")
    file = load_weights(
        base.weights, base.cut, read_outs=base.read_outs, side=base.resize, mirror=base.mirror
    )
    last = len(file.network.layers) - 1
    text = f"{file.label}, layers 0 to {last} of {file.layers_in_file}{_taken_as(base)}"
    operations: tuple[Operation, ...] = (file.network,)
    if base.resize is not None:
        operations = (Resize(base.resize), file.network)
    if file.trained_on is not None:
        text = f"{text}, trained on {file.trained_on}"
        return operations, FrontOrigin("public-weights", text)
    # It may have been trained on the very samples that are to be protected.
    reason = f"{file.name} does not say what it was trained on"
    return operations, FrontOrigin("public-weights", text, conditional=True, reason=reason)


def _delivered_base(base: FrontBase) -> _Made:
    if base.delivered is None:
        raise UsageError("this kind of front needs the folder of a run", where="front.run")
    delivered, facts = base.delivered, base.delivered.facts
    network, count = delivered.front_network(
        base.input_shape,
        cut=base.cut,
        read_outs=base.read_outs,
        side=base.resize,
        mirror=base.mirror,
    )
    # As the rows of that run were: limited to [0, 1].
    operations = untrained_identity(False)
    if base.resize is not None:
        operations += (Resize(base.resize),)
    operations += (network,)
    text = (
        f"{delivered.job.model.name} as run {facts.run_id} delivered it, layers 0 to "
        f"{len(network.layers) - 1} of {count}{_taken_as(base)}, trained on {facts.data}"
    )
    reason = "; ".join(delivered.reasons) or None
    return operations, FrontOrigin(
        "run", text, conditional=reason is not None, reason=reason, run=facts
    )


def _taken_as(base: FrontBase) -> str:
    """Return how images enter a network and what is taken from it, in words."""
    text = "" if base.resize is None else f", images of {base.resize} pixels a side"
    if base.read_outs:
        text += f", read out at {' '.join(map(str, base.read_outs))}"
    if base.mirror:
        text += ", mean of an image and its mirror image"
    return text


def _train_base(base: FrontBase, training: DpSgdTraining | None) -> _Made:
    if training is None:
        raise UsageError("this kind of front needs its settings and rows", where="front.dp_sgd")
    settings = training.settings
    if settings.layers is None and base.dim is None:
        raise UsageError("this kind of front needs a number of features", where="front.dim")
    from clicooper_hpc.fronts.dpsgd import train_dpsgd_front  # late: Opacus takes seconds

    network, cost = train_dpsgd_front(
        training.private,
        settings,
        input_shape=base.input_shape,
        dim=base.dim or 0,
        seed=base.seed,
    )
    text = (
        f"{cost.steps} steps, Poisson rate {cost.sample_rate:.6g}, "
        f"noise multiplier {cost.noise_multiplier:.6g}, clip {settings.clip_norm:g}, "
        "PRV accountant"
    )
    return (network,), FrontOrigin("dp-sgd", text, epsilon=cost.epsilon, delta=cost.delta)


def _append_projection(
    made: _Made, data: ProjectionData, input_shape: tuple[int, ...], block_rows: int
) -> tuple[_Made, NDArray[np.float32]]:
    """Append the fitted projection and say what it was fitted on.

    Also return the public rows as they come out before it.
    """
    (operations, origin), wanted, public = made, data.wanted, data.public
    if public is None:
        raise UsageError("a projection is fitted on public data", where="front.public_data")
    block = safe_row_block(operations, input_shape, block_rows)
    features = evaluate_row_blocks(
        operations, public.rows, input_shape=input_shape, block_rows=block
    )
    private = wanted.method == "private-lda"
    linear = fit_projection(
        # The private directions come from the class sums; before them coordinates of little
        # variance are dropped.
        features,
        public.labels,
        Projection("pca", wanted.dim, wanted.whiten) if private else wanted,
    )
    # Reasons add up: what was doubtful of the base stays doubtful behind the projection.
    reasons = [origin.reason] if origin.reason else []
    reasons += _dependence(public, data.private_fingerprint)
    method = "PCA" if private else wanted.method.upper()
    text = (
        f"{method} to {linear.matrix.shape[1]} coordinates, whitening {wanted.whiten:g}, "
        f"fitted on {len(public.rows)} rows of {public.name}"
    )
    projected = replace(
        origin,
        projection=text,
        conditional=bool(reasons),
        reason="; ".join(reasons) or None,
    )
    if not private:
        return ((*operations, linear), projected), features
    if data.class_means is None or public.labels is None:
        raise UsageError(
            "this projection needs private samples to spend and public labels",
            where="front.projection",
        )
    # Norm 1 is what bounds a sample's part in its class sum, so it comes before the sums.
    before = assemble_front(
        input_shape, (*operations, linear, Scale(1.0)), projected, block_rows=block_rows
    )
    rows = evaluate_row_blocks(
        before.operations[-2:], features, input_shape=features.shape[1:], block_rows=block
    )
    return append_private_lda(before, rows, public.labels, data.class_means), features


def _dependence(public: PublicRows, private_fingerprint: Digest | None) -> list[str]:
    """Return why the public rows may not be independent of the private ones, if so."""
    if private_fingerprint is None:
        return [f"{public.name} was not compared with the private data"]
    if private_fingerprint == public.fingerprint:
        return [f"the projection was fitted on the private data itself ({public.name})"]
    # Equal fingerprints show equal data sets only; a part of the private rows is found row by row.
    return [f"{public.shared} rows of {public.name} are private rows too"] if public.shared else []

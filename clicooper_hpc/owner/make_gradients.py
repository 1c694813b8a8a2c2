"""Makes what leaves with ``release.mode = "gradients"``: noised moments, then rounds of gradients.

The private samples enter here and nowhere else, first all in the moments, then all in each round.
Every sum is charged, made, stored, in this order, before the next; all of it before anything
leaves. Where the private folder is kept, a start that was ended on the way is made again from what
is stored; `run --resume` removes it, since nobody has seen anything of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.gradient_rounds import (
    OwnerRows,
    descend,
    model_digest,
    stable_step,
    sum_gradients,
)
from clicooper_hpc.owner.make_moments import (
    Naming,
    SummedSamples,
    noise_moments,
    release_of_sums,
    row_blocks,
)
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.owner.noised_sums import NoisedRounds
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.sum_charges import SumCharges
from clicooper_hpc.privacy.gradient_sums import (
    SplitPromise,
    noised_gradient_sum,
    round_context,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import Moments, MomentSums, moments_context
from clicooper_hpc.privacy.noise import ReleaseContext

__all__ = [
    "Descent",
    "SumKeeping",
    "gradients_digest",
    "make_gradients_release",
]


@dataclass(frozen=True, slots=True)
class Descent:
    """Number of rounds, step size of gradient descent, and the promise (None: privacy off)."""

    rounds: int
    step: float
    promise: SplitPromise | None


@dataclass(frozen=True, slots=True)
class SumKeeping:
    """What a sum has to go through: its charge, noise of this key, these private files."""

    charges: SumCharges | None
    master: MasterKey
    secrets: OwnerSecrets


def gradients_digest(front: Front, train: Split, descent: Descent) -> Digest:
    """Return what names everything that is made of moments and rounds together."""
    promise = descent.promise
    specs = "off" if promise is None else f"{promise.moments.digest()} {promise.gradients.digest()}"
    parts = (front.digest, train.fingerprint(), specs, descent.rounds, repr(descent.step))
    return digest_bytes("clicooper/v1/gradients", " ".join(map(str, parts)).encode("ascii"))


def make_gradients_release(
    front: Front, data: SummedSamples, naming: Naming, descent: Descent, keeping: SumKeeping
) -> MomentsRelease:
    """Sum up the private rows, then their gradients round by round, and make what leaves."""
    blocks = list(row_blocks(front, data.train))
    # In memory: behind a deep front every pass over the samples takes minutes.
    private = OwnerRows(
        np.concatenate([rows for rows, _ in blocks]),
        np.concatenate([labels for _, labels in blocks]),
    )
    if keeping.charges is not None:
        keeping.charges.charge_moments()
    moments = keeping.secrets.secret_noised_moments(
        lambda: _moments(front, data, private, descent.promise, keeping.master)
    )

    def improve(fitted: MomentModel, rows: NDArray[np.float64]) -> MomentModel:
        begun = NoisedRounds(fitted, stable_step(rows, descent.step))
        return _take_rounds(front, data, private, descent, keeping, begun)

    return release_of_sums(moments, front, data, naming, improve=improve)


def _moments(
    front: Front,
    data: SummedSamples,
    private: OwnerRows,
    promise: SplitPromise | None,
    master: MasterKey,
) -> Moments:
    spec = None if promise is None else promise.moments
    sums = MomentSums(data.classes, private.rows.shape[1], spec)
    for rows, labels in private.row_blocks():
        sums.add_rows(rows, labels)
    context = None
    if spec is not None:
        context = moments_context(front.digest, data.train.fingerprint(), spec)
    return noise_moments(sums, context, master)


def _take_rounds(
    front: Front,
    data: SummedSamples,
    private: OwnerRows,
    descent: Descent,
    keeping: SumKeeping,
    begun: NoisedRounds,
) -> MomentModel:
    """Return the model after all rounds, of which some may have been made before."""
    kept = keeping.secrets.secret_rounds(begun)
    made, promise, fingerprint = [*kept.sums], descent.promise, data.train.fingerprint()

    def noised_sum(number: int, model: MomentModel) -> NDArray[np.float64]:
        context = None
        if promise is not None and keeping.charges is not None:
            context = round_context(
                number, model_digest(model), front.digest, fingerprint, promise.gradients
            )
            # Of a sum that is stored already this only asks whether it is this model's.
            keeping.charges.charge_round(number, context.digest())
        if number > len(made):
            made.append(_gradients(private, model, context, keeping.master))
            keeping.secrets.store_rounds(replace(kept, sums=tuple(made)))
        return made[number - 1]

    return descend(
        kept.start,
        noised_sum,
        samples=len(private.rows),
        rounds=descent.rounds,
        step=kept.step,
    )


def _gradients(
    private: OwnerRows,
    model: MomentModel,
    context: ReleaseContext | None,
    master: MasterKey,
) -> NDArray[np.float64]:
    if context is None:
        return sum_gradients(private, model, None).plain_sum()
    return noised_gradient_sum(sum_gradients(private, model, context.spec), context, master)

"""Makes what leaves with ``release.mode = "gradients"``: noised moments, then rounds of gradients.

The private samples enter here and nowhere else, first all in the moments, then all in each round.
Every sum is charged before it is made, and all of them are made before anything leaves: nobody has
seen anything of a start that was ended on the way, and `run --resume` removes it. Made again in the
same private folder they are the same sums with the same noise, and are not charged again.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from clicooper_hpc.owner.sum_charges import SumCharges
from clicooper_hpc.privacy.gradient_sums import (
    SplitPromise,
    noised_gradient_sum,
    round_context,
)
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import Moments, MomentSums, moments_context

__all__ = [
    "Descent",
    "gradients_digest",
    "make_gradients_release",
]


@dataclass(frozen=True, slots=True)
class Descent:
    """Number of rounds, step size of gradient descent, and the promise (None: privacy off)."""

    rounds: int
    step: float
    promise: SplitPromise | None


def gradients_digest(front: Front, train: Split, descent: Descent) -> Digest:
    """Return what names everything that is made of moments and rounds together."""
    promise = descent.promise
    specs = "off" if promise is None else f"{promise.moments.digest()} {promise.gradients.digest()}"
    parts = (front.digest, train.fingerprint(), specs, descent.rounds, repr(descent.step))
    return digest_bytes("clicooper/v1/gradients", " ".join(map(str, parts)).encode("ascii"))


def make_gradients_release(
    front: Front,
    data: SummedSamples,
    naming: Naming,
    descent: Descent,
    *,
    charges: SumCharges | None,
    master: MasterKey,
) -> MomentsRelease:
    """Sum up the private rows, then their gradients round by round, and make what leaves.

    ``charges`` is None with privacy off.
    """
    blocks = list(row_blocks(front, data.train))
    # In memory: behind a deep front every pass over the samples takes minutes.
    private = OwnerRows(
        np.concatenate([rows for rows, _ in blocks]),
        np.concatenate([labels for _, labels in blocks]),
    )
    promise, fingerprint = descent.promise, data.train.fingerprint()
    if charges is not None:
        charges.charge_moments()
    moments = _moments(front, data, private, promise, master)

    def noised_sum(number: int, model: MomentModel) -> NDArray[np.float64]:
        if promise is None or charges is None:
            return sum_gradients(private, model, None).plain_sum()
        spec = promise.gradients
        context = round_context(number, model_digest(model), front.digest, fingerprint, spec)
        charges.charge_round(number, context.digest())
        return noised_gradient_sum(sum_gradients(private, model, spec), context, master)

    def improve(fitted: MomentModel, rows: NDArray[np.float64]) -> MomentModel:
        return descend(
            fitted,
            noised_sum,
            samples=len(private.rows),
            rounds=descent.rounds,
            step=stable_step(rows, descent.step),
        )

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

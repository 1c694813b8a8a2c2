"""Sums of gradients of a recorded run, made again at the models they were taken at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import HeldRounds, SummedRelease
from clicooper_hpc.config.job import Job
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import open_public_rows
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.evaluation import MomentBaselines
from clicooper_hpc.owner.gradient_rounds import (
    OwnerRows,
    descend,
    model_digest,
    stable_step,
    sum_gradients,
)
from clicooper_hpc.owner.make_moments import row_blocks
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.gradient_sums import noised_gradient_sum, round_context
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["add_up_rounds"]


def add_up_rounds(
    job: Job,
    moments: SummedRelease,
    kept: MomentBaselines,
    front: Front,
    train: Split,
    *,
    spec: ReleaseSpec | None,
    master: MasterKey,
) -> HeldRounds:
    """Return the rounds of a run with their noise and without.

    Parameters
    ----------
    moments
        As released.
    kept
        Models of the run before the rounds and after them.
    spec
        Of one round; None with privacy off.

    Raises
    ------
    EvidenceError
        The samples, behind ``front`` and with the noise of the run, do not lead from the one model
        to the other.
    """
    start, end = kept.moments, kept.gradients
    if start is None or end is None:
        raise ValueError("these are no models of a run of gradients")
    private = OwnerRows(*_all_rows(front, train))
    models: list[MomentModel] = []
    released: list[NDArray[np.float64]] = []
    exact: list[NDArray[np.float64]] = []

    def made_again(number: int, model: MomentModel) -> NDArray[np.float64]:
        gradients = sum_gradients(private, model, spec)
        if spec is None:
            noised = whole = gradients.plain_sum()
        else:
            whole = gradients.lattice_sum() * np.float64(spec.grid)
            name = front.digest, train.fingerprint()
            context = round_context(number, model_digest(model), *name, spec)
            noised = noised_gradient_sum(gradients, context, master)
        models.append(model)
        released.append(noised)
        exact.append(whole)
        return noised

    found = descend(
        start,
        made_again,
        samples=len(train),
        rounds=job.release.rounds,
        step=stable_step(_recoloured_rows(job, moments, front), job.release.gradient_step),
    )
    # Without noise sums are not exact: other machines add up in another order.
    if not np.allclose(found.matrix, end.matrix, rtol=0, atol=1e-9):
        raise EvidenceError(
            "the gradients of the private samples do not lead to the model of the run",
            where="data.path",
            remedy="Attack the run where its data, its key and its code are.",
        )
    return HeldRounds(tuple(models), np.stack(released), np.stack(exact), spec)


def _recoloured_rows(job: Job, moments: SummedRelease, front: Front) -> NDArray[np.float64]:
    """Return the public rows in the likeness of the private ones, as the run made them."""
    data, split = open_public_rows(job)
    with data:
        public = _all_rows(front, split)[0].astype(np.float64)
    recolouring = fit_recolouring(public, moments.as_moments())
    rows: NDArray[np.float64] = (public - recolouring.offset.numpy()) @ recolouring.matrix.numpy()
    return rows


def _all_rows(front: Front, split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    blocks = list(row_blocks(front, split))
    return (
        np.concatenate([rows for rows, _ in blocks]),
        np.concatenate([labels for _, labels in blocks]),
    )

"""Sums of gradients of a recorded run, made again at the models they were taken at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import HeldRounds
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.gradient_rounds import (
    OwnerRows,
    descend,
    model_digest,
    sum_gradients,
)
from clicooper_hpc.owner.make_moments import row_blocks
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.owner.noised_sums import NoisedRounds
from clicooper_hpc.privacy.gradient_sums import noised_gradient_sum, round_context
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["add_up_rounds"]


def add_up_rounds(
    kept: NoisedRounds, front: Front, train: Split, *, spec: ReleaseSpec | None, master: MasterKey
) -> HeldRounds:
    """Return the rounds of a run with their noise and without, from the sums that it kept.

    ``spec``: of one round; None with privacy off.

    Raises
    ------
    EvidenceError
        The samples, behind ``front`` and with the noise of the run, do not add up to them.
    """
    blocks = list(row_blocks(front, train))
    private = OwnerRows(
        np.concatenate([rows for rows, _ in blocks]),
        np.concatenate([labels for _, labels in blocks]),
    )
    models: list[MomentModel] = []
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
        # Without noise sums are not exact: other machines add up in another order.
        if not np.allclose(noised, kept.sums[number - 1], rtol=0, atol=1e-9 * len(train)):
            raise EvidenceError(
                f"the private samples do not add up to the gradients of round {number}",
                where="data.path",
                remedy="Attack the run where its data, its key and its code are.",
            )
        models.append(model)
        exact.append(whole)
        return kept.sums[number - 1]

    rounds = len(kept.sums)
    descend(kept.start, made_again, samples=len(train), rounds=rounds, step=kept.step)
    return HeldRounds(tuple(models), np.stack(kept.sums), np.stack(exact), spec)

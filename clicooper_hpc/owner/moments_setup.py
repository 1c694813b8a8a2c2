"""Opens a release of sums over all samples: public rows leave in place of those of samples."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import open_public_rows
from clicooper_hpc.owner.budget import RunCosts, budget_for_run, check_budget_for_run
from clicooper_hpc.owner.clean_rows import job_clean_rows
from clicooper_hpc.owner.evaluation import HeldOutSamples
from clicooper_hpc.owner.make_gradients import (
    Descent,
    gradients_digest,
    make_gradients_release,
)
from clicooper_hpc.owner.make_moments import (
    Naming,
    SummedSamples,
    check_moment_numbers,
    make_summed_release,
    solve_summed_spec,
    summed_digest,
)
from clicooper_hpc.owner.moments_release import MomentsRelease
from clicooper_hpc.owner.opened_release import OpenedRelease
from clicooper_hpc.owner.release_gate import ReleasedSplit, ReleaseGate
from clicooper_hpc.owner.samples import Samples
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.sum_charges import SumCharges, costs_of_gradients
from clicooper_hpc.privacy.gradient_sums import SplitPromise, solve_split_promise
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.row_releaser import PlainReleaser

__all__ = ["job_promise", "open_moments_release"]


def open_moments_release(
    job: Job,
    data: DataSet,
    samples: Samples,
    front: Front,
    master: MasterKey,
    secrets: OwnerSecrets,
) -> OpenedRelease:
    """Solve the noise, ask the budget, make or restore the release, open the gate."""
    train, mode = samples.splits["train"], job.release.mode
    promise = job_promise(job, int(np.prod(front.output_shape)), data.num_classes)
    spec = promise.whole if isinstance(promise, SplitPromise) else promise
    descent = None
    if mode == "gradients":
        split = promise if isinstance(promise, SplitPromise) else None
        descent = Descent(job.release.rounds, job.release.gradient_step, split)
        name = gradients_digest(front, train, descent)
    else:
        name = summed_digest(mode, front, train, spec)
    if isinstance(promise, SplitPromise):
        costs = costs_of_gradients(job, front, train, promise, name)
    else:
        costs = RunCosts.costs_of_job(job, front, spec, {"train": len(train)}, {"train": name})
    ledger = secrets.secret_ledger(budget_for_run(job, spec))
    # Before the sums are made, which takes minutes.
    check_budget_for_run(costs, ledger)
    charges = None if costs.moments is None else SumCharges(costs, ledger, secrets)

    def make() -> MomentsRelease:
        naming = Naming(job.release.mixes, job.release.sharpness)
        public, rows = open_public_rows(job)
        both = SummedSamples(train, rows, data.num_classes)
        try:
            if descent is None:
                return make_summed_release(mode, front, both, naming, spec=spec, master=master)
            return make_gradients_release(
                front, both, naming, descent, charges=charges, master=master
            )
        finally:
            public.close()

    release = secrets.secret_moments(make)
    receipts = secrets.secret_receipts(
        "train", len(release.rows), master.derive_key("receipts", name.value)
    )
    # Public rows need no noise of their own: what is private in them has been noised.
    leaving = ReleasedSplit(release.rows, PlainReleaser(), receipts)
    return OpenedRelease(
        spec=spec,
        gate=ReleaseGate({"train": leaving}, costs, ledger, secrets),
        classes=release.rows.names,
        held_out=HeldOutSamples(
            samples.splits["test"], job_clean_rows(job, front), release.baselines
        ),
    )


def job_promise(job: Job, dimension: int, classes: int) -> ReleaseSpec | SplitPromise | None:
    """Return the promise of a job that sums up all samples, solved; None with privacy off.

    ``dimension``: numbers of a row; ``classes``: of the private samples.

    Raises
    ------
    UsageError
        There is no such mechanism, or the rows are too wide for it.
    """
    mode, privacy, release = job.release.mode, job.privacy, job.release
    if mode != "sums":
        check_moment_numbers(dimension)
    if not privacy.enabled:
        return None
    epsilon, delta = privacy.epsilon, privacy.delta
    if mode != "gradients":
        return solve_summed_spec(mode, dimension, epsilon=epsilon, delta=delta)
    return solve_split_promise(
        dimension,
        classes,
        epsilon=epsilon,
        delta=delta,
        rounds=release.rounds,
        share=release.gradient_share,
    )

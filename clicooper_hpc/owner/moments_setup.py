"""Opens a release of sums over all samples: public rows leave in place of those of samples."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import open_public_rows
from clicooper_hpc.owner.budget import RunCosts, budget_for_run, check_budget_for_run
from clicooper_hpc.owner.evaluation import HeldOutSamples
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
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.row_releaser import PlainReleaser

__all__ = ["open_moments_release"]


def open_moments_release(
    job: Job,
    data: DataSet,
    samples: Samples,
    front: Front,
    master: MasterKey,
    secrets: OwnerSecrets,
) -> OpenedRelease:
    """Solve the noise, ask the budget, make or restore the release, open the gate."""
    train, privacy, mode = samples.splits["train"], job.privacy, job.release.mode
    numbers = int(np.prod(front.output_shape))
    if mode == "moments":
        check_moment_numbers(numbers)
    spec = None
    if privacy.enabled:
        spec = solve_summed_spec(mode, numbers, epsilon=privacy.epsilon, delta=privacy.delta)
    name = summed_digest(mode, front, train, spec)
    costs = RunCosts.costs_of_job(job, front, spec, {"train": len(train)}, {"train": name})
    ledger = secrets.secret_ledger(budget_for_run(job, spec))
    # Before the sums are made, which takes minutes.
    check_budget_for_run(costs, ledger)
    release = secrets.secret_moments(lambda: _make_release(job, data, train, front, spec, master))
    receipts = secrets.secret_receipts(
        "train", len(release.rows), master.derive_key("receipts", name.value)
    )
    # Public rows need no noise of their own: what is private in them has been noised.
    leaving = ReleasedSplit(release.rows, PlainReleaser(), receipts)
    return OpenedRelease(
        spec=spec,
        gate=ReleaseGate({"train": leaving}, costs, ledger, secrets),
        classes=release.rows.names,
        held_out=HeldOutSamples(samples.splits["test"], front, PlainReleaser(), release.baselines),
    )


def _make_release(
    job: Job,
    data: DataSet,
    train: Split,
    front: Front,
    spec: ReleaseSpec | None,
    master: MasterKey,
) -> MomentsRelease:
    naming = Naming(job.release.mixes, job.release.sharpness)
    public, rows = open_public_rows(job)
    try:
        both = SummedSamples(train, rows, data.num_classes)
        return make_summed_release(job.release.mode, front, both, naming, spec=spec, master=master)
    finally:
        public.close()

"""Opens a release of ``release.mode = "moments"``: public rows in place of those of samples."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.job_front import open_public_rows
from clicooper_hpc.owner.budget import RunCosts, budget_for_run, check_budget_for_run
from clicooper_hpc.owner.evaluation import HeldOutSamples
from clicooper_hpc.owner.moments_release import (
    MomentsRelease,
    Naming,
    check_moment_numbers,
    make_moments_release,
    moments_digest,
)
from clicooper_hpc.owner.opened_release import OpenedRelease
from clicooper_hpc.owner.release_gate import ReleasedSplit, ReleaseGate
from clicooper_hpc.owner.samples import Samples
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.moments import solve_moments_spec
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
    train, privacy = samples.splits["train"], job.privacy
    numbers = int(np.prod(front.output_shape))
    check_moment_numbers(numbers)
    spec = None
    if privacy.enabled:
        spec = solve_moments_spec(numbers, epsilon=privacy.epsilon, delta=privacy.delta)
    name = moments_digest(front, train, spec)
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
        return make_moments_release(
            front, train, rows, data.num_classes, naming, spec=spec, master=master
        )
    finally:
        public.close()

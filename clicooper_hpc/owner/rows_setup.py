"""Opens a release of ``release.mode = "rows"``: a noised row for every sample."""

from __future__ import annotations

from collections.abc import Mapping

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.budget import RunCosts, budget_for_run, check_budget_for_run
from clicooper_hpc.owner.clean_rows import job_clean_rows
from clicooper_hpc.owner.evaluation import HeldOutSamples
from clicooper_hpc.owner.opened_release import OpenedRelease
from clicooper_hpc.owner.release_gate import ReleasedSplit, ReleaseGate
from clicooper_hpc.owner.release_mechanism import ReleaseMechanism, solve_release_mechanism
from clicooper_hpc.owner.row_source import FrontRows
from clicooper_hpc.owner.samples import Samples
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.sub_labels import answer_for_sub_labels
from clicooper_hpc.privacy.master_key import MasterKey

__all__ = ["open_rows_release"]


def open_rows_release(
    job: Job,
    data: DataSet,
    samples: Samples,
    front: Front,
    master: MasterKey,
    secrets: OwnerSecrets,
) -> OpenedRelease:
    """Solve the noise, ask the budget, open the gate."""
    splits, train = samples.splits, samples.splits["train"]
    mechanism = solve_release_mechanism(job, front, splits, master)
    # The budget is asked for the whole run now: naming the samples takes long.
    gate = _set_up_gate(job, front, splits, mechanism, master, secrets)
    return OpenedRelease(
        spec=mechanism.spec,
        gate=gate,
        classes=answer_for_sub_labels(job, data, train, master, mechanism.contexts["train"]),
        held_out=HeldOutSamples(splits["test"], job_clean_rows(job, front)),
        validation_samples=len(splits.get("validation", ())),
    )


def _set_up_gate(
    job: Job,
    front: Front,
    splits: Mapping[str, Split],
    mechanism: ReleaseMechanism,
    master: MasterKey,
    secrets: OwnerSecrets,
) -> ReleaseGate:
    """Ask the budget for the whole run, then open the gate; the test split has no way out."""
    # The test split has no receipts and no way out: it is for the owner's evaluation alone.
    leaving = {name: splits[name] for name in ("train", "validation") if name in splits}
    released = {
        name: ReleasedSplit(
            FrontRows(front, split),
            mechanism.releasers[name],
            # Keyed by the release: receipts of another one are refused when they are read.
            secrets.secret_receipts(
                name, len(split), master.derive_key("receipts", mechanism.contexts[name].value)
            ),
        )
        for name, split in leaving.items()
    }
    counts = {name: len(split) for name, split in leaving.items()}
    costs = RunCosts.costs_of_job(job, front, mechanism.spec, counts, mechanism.contexts)
    ledger = secrets.secret_ledger(budget_for_run(job, mechanism.spec))
    check_budget_for_run(costs, ledger)
    return ReleaseGate(released, costs, ledger, secrets)

"""What a run costs its samples, refused where it cannot be meant or paid, and reserved once."""

from __future__ import annotations

from dataclasses import dataclass

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.budget import check_budget_for_front
from clicooper_hpc.owner.promise_check import check_promise
from clicooper_hpc.owner.promise_spec import promise_spec
from clicooper_hpc.owner.run_account import JobAccount, job_account
from clicooper_hpc.owner.sample_charges import SampleCharges, front_charges, sample_charges
from clicooper_hpc.owner.samples import split_samples

__all__ = ["RunCost", "check_before_front", "settle_run_cost"]


@dataclass(frozen=True, slots=True)
class RunCost:
    """Cost of a run to the sample that pays most; ``account``: of the job, None without one."""

    account: JobAccount | None
    charges: SampleCharges

    def reserve(self, run_id: str, folder: str) -> list[str]:
        """Reserve it in the account, if there is one, and return what to log.

        Call before anything leaves.

        Raises
        ------
        ClicooperError
            See `JobAccount.reserve_cost`; nothing has been sent.
        """
        if self.account is None:
            return []
        return self.account.reserve_cost(self.charges, run_id, folder)


def check_before_front(job: Job, data: DataSet, run_id: str | None) -> None:
    """Refuse what is known before the front is made, which may take hours.

    ``run_id``: of the run that is started again; None for a new one.

    Raises
    ------
    UsageError
        A delta of the job promises nothing.
    BudgetExceededError
        The front alone exceeds the budget, or the limit of the account.
    """
    splits = split_samples(job, data)
    private = len(splits["train"]) + len(splits.get("validation", ()))
    check_promise(job, private, data.num_classes)
    check_budget_for_front(job)
    if job.front.kind == "dp-sgd":
        account = job_account(job, data)
        if account is not None:
            account.check_cost(front_charges(job), run_id)


def settle_run_cost(job: Job, data: DataSet, front: Front, run_id: str | None) -> RunCost:
    """Return what the run costs with the front it has, before any sum of samples is made.

    Raises
    ------
    BudgetExceededError
        All runs together would cost a sample more than the limit of the account.
    """
    spec = promise_spec(
        job, front.output_shape, non_negative=front.non_negative, classes=data.num_classes
    )
    charges = sample_charges(job, spec, front.origin.summarise_origin().charge())
    account = job_account(job, data)
    if account is not None:
        account.check_cost(charges, run_id)
    return RunCost(account, charges)

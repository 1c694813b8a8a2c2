"""What `clicooper plan` refuses of a promise, and what it says of its cost over all runs."""

from __future__ import annotations

from collections.abc import Mapping

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.dpsgd_noise import solve_dpsgd_noise
from clicooper_hpc.fronts.job_front import dpsgd_settings
from clicooper_hpc.owner.front_outline import FrontOutline
from clicooper_hpc.owner.promise_check import check_promise
from clicooper_hpc.owner.promise_spec import promise_spec
from clicooper_hpc.owner.run_account import job_account
from clicooper_hpc.owner.sample_charges import (
    check_job_budget,
    forecast_front_charge,
    sample_charges,
)

__all__ = ["check_plan_promise", "plan_cost_lines"]


def check_plan_promise(job: Job, splits: Mapping[str, Split], classes: int) -> None:
    """Refuse what a run would refuse of its promise, from the keys and the number of samples.

    Raises
    ------
    UsageError
        See `clicooper_hpc.owner.promise_check` and `clicooper_hpc.fronts.dpsgd_noise`.
    """
    train = splits["train"]
    check_promise(job, len(train) + len(splits.get("validation", ())), classes)
    if job.front.kind == "dp-sgd":
        solve_dpsgd_noise(dpsgd_settings(job.front), len(train))


def plan_cost_lines(job: Job, data: DataSet, outline: FrontOutline) -> list[str]:
    """Return what the privacy account holds for a run of ``job``; empty without one.

    Raises
    ------
    BudgetExceededError
        The job costs more than its own budget. Beyond the account's limit it is only said: a run
        that has reserved its cost may go on.
    """
    spec = promise_spec(
        job, outline.shape, non_negative=outline.non_negative, classes=data.num_classes
    )
    charges = sample_charges(job, spec, forecast_front_charge(job))
    check_job_budget(job, charges)
    account = job_account(job, data)
    if account is None:
        return []
    first, *more = account.describe_job(account.stored_account(), charges)
    return [f"account: {first}", *(f"         {line}" for line in more)]

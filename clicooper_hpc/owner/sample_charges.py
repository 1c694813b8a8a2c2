"""What a run costs the sample that pays most: one charge under each relation, for whole samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import BudgetExceededError
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.both_relations import (
    RelationStatement,
    state_row_release,
    state_summed_release,
)
from clicooper_hpc.privacy.class_sums import class_sums_guarantee
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_mu
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = [
    "SampleCharges",
    "check_job_budget",
    "forecast_front_charge",
    "front_charges",
    "sample_charges",
]


@dataclass(frozen=True, slots=True)
class SampleCharges:
    """Cost of a run to a whole sample.

    Attributes
    ----------
    replace_one
        Against any other sample in its place.
    absent
        Against none in its place: the zero row where rows are released (zero-out), one sample less
        in sums and in DP-SGD (add-remove). A `Charge` of relation ``"zero-out"``.
    delta
        At which the run states its epsilon: the budget's, or what its parts need.
    """

    replace_one: Charge
    absent: Charge
    delta: float

    def under(self, relation: Relation) -> Charge:
        """Return the charge for ``relation``."""
        return self.replace_one if relation == "replace-one" else self.absent


def sample_charges(job: Job, spec: ReleaseSpec | None, front: Charge) -> SampleCharges:
    """Return what a run of ``job`` costs.

    Parameters
    ----------
    spec
        Of the release; of the whole promise, where several releases share it. None: privacy off.
    front
        Of the front's training to a sample that is released; see `forecast_front_charge`.
    """
    if spec is None:
        return SampleCharges(Charge.unbounded(), Charge(epsilon=math.inf, relation="zero-out"), 1.0)
    both = [_charge(job, spec, front, relation) for relation in ("replace-one", "zero-out")]
    delta = job.privacy.budget_delta or min(
        1.0, job.privacy.delta + front.under(job.privacy.relation).delta
    )
    return SampleCharges(both[0], both[1], delta)


def forecast_front_charge(job: Job) -> Charge:
    """Return what the job's front may cost at most: DP-SGD ends at its target, or below."""
    if job.front.kind != "dp-sgd":
        return Charge()
    target = job.front.dp_sgd
    return Charge.approximate(target.epsilon, target.delta, "zero-out")


def front_charges(job: Job) -> SampleCharges:
    """Return what a run of ``job`` costs at least: making its front."""
    front = forecast_front_charge(job)
    return SampleCharges(front.under("replace-one"), front.under("zero-out"), front.delta)


def check_job_budget(job: Job, charges: SampleCharges) -> None:
    """Refuse, before any work, a job that costs more than its own budget.

    Raises
    ------
    BudgetExceededError
        As the run would be.
    """
    privacy = job.privacy
    if not privacy.enabled or privacy.budget_epsilon is None or privacy.budget_delta is None:
        return
    epsilon, _ = compose_charges(
        [charges.under(privacy.relation)], privacy.budget_delta, privacy.relation
    )
    if epsilon > privacy.budget_epsilon:
        raise BudgetExceededError(
            f"the run would bring a sample to epsilon {epsilon:.6g} at delta "
            f"{privacy.budget_delta:.3g} ({privacy.relation}), budget {privacy.budget_epsilon:.6g}",
            where="privacy.budget_epsilon",
            remedy="Raise the budget, lower the epsilon of the releases, or release less.",
        )


def _charge(job: Job, spec: ReleaseSpec, front: Charge, relation: Relation) -> Charge:
    mu = gaussian_mu(spec.sigma, _sensitivity(_stated(job, spec), relation))
    if job.front.projection == "private-lda":
        # Samples that are spent on class sums pay for these and for nothing else; whoever pays
        # more stands for both.
        mu = max(mu, _class_sums_mu(job, relation))
    made = front.under(relation)
    labels = 0.0
    if job.release.mode == "rows":
        labels = job.labels.randomized_response_epsilon or 0.0
    return Charge(math.hypot(mu, made.mu), made.epsilon + labels, min(1.0, made.delta), relation)


def _stated(job: Job, spec: ReleaseSpec) -> tuple[RelationStatement, ...]:
    mode = job.release.mode
    if mode == "rows":
        return state_row_release(spec)
    share = job.release.gradient_share if mode == "gradients" else 0.0
    return state_summed_release(spec, sums_alone=mode == "sums", gradient_share=share)


def _class_sums_mu(job: Job, relation: Relation) -> float:
    privacy = job.privacy
    promise = class_sums_guarantee(
        1, epsilon=privacy.epsilon, delta=privacy.delta, relation=privacy.relation
    )
    spec = solve_release_spec(promise)
    return gaussian_mu(
        spec.sigma, _sensitivity(state_summed_release(spec, sums_alone=True), relation)
    )


def _sensitivity(stated: tuple[RelationStatement, ...], relation: Relation) -> float:
    """Return how far the release of a whole sample moves; add-remove stands in for zero-out."""
    for one in stated:
        fits = (one.relation == "replace-one") == (relation == "replace-one")
        if fits and one.unit == "sample" and one.sensitivity is not None:
            return one.sensitivity
    raise ValueError(f"the release is not stated under {relation}")

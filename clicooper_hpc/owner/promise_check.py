"""Refuses privacy keys that cannot be meant, before anything is computed or sent.

A promise with a delta of 1 / n or more is kept by a mechanism that publishes one of n samples as it
is; with a delta of 1 it says nothing at all. What each single mechanism can compute is asked where
it is solved (`clicooper_hpc.privacy.release_spec`, `clicooper_hpc.fronts.dpsgd_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.randomized_response import check_response
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = ["check_promise"]


def check_promise(job: Job, samples: int, classes: int) -> None:
    """Raise if a delta of ``job`` promises nothing to one of ``samples`` private samples.

    Of a job without privacy, which says so, no more is asked than that its labels can be answered.

    Raises
    ------
    UsageError
        Names key, value, number of samples and the remedy.
    """
    response = job.labels.randomized_response_epsilon
    if response is not None:
        check_response(response, classes)
    if not job.privacy.enabled:
        return
    for key, delta in _deltas(job):
        if delta >= 1 / samples and not job.privacy.allow_large_delta:
            raise UsageError(
                f"delta {delta:g} is not below 1 / {samples}, one over the number of samples: such "
                "a promise is kept by publishing one of them as it is",
                where=key,
                remedy=f"Choose less than {1 / samples:.2g}, or say privacy.allow_large_delta = "
                "true.",
            )
    _check_total(job, samples)


def _deltas(job: Job) -> Iterator[tuple[str, float]]:
    """Yield each delta that the job names, by its key."""
    privacy = job.privacy
    yield "privacy.delta", privacy.delta
    if privacy.budget_delta is not None:
        yield "privacy.budget_delta", privacy.budget_delta
    if privacy.account_delta is not None:
        yield "privacy.account_delta", privacy.account_delta
    if job.front.kind == "dp-sgd":
        yield "front.dp_sgd.delta", job.front.dp_sgd.delta


def _check_total(job: Job, samples: int) -> None:
    """Refuse a sum of deltas that means nothing under the relation of the job."""
    if job.front.kind != "dp-sgd":
        return
    privacy, front = job.privacy, job.front.dp_sgd
    restated = _restated_delta(front.epsilon, front.delta, privacy.relation)
    total = privacy.delta + restated
    if total < 1 and (total < 1 / samples or privacy.allow_large_delta):
        return
    limit = f"1 / {samples}" if total < 1 else "1, where it promises nothing"
    what = f"delta {front.delta:g} at epsilon {front.epsilon:g}"
    if privacy.relation == "replace-one":
        what += f", stated for adding or removing a sample, is {restated:.3g} for replacing one"
    yes = ", or say privacy.allow_large_delta = true" if total < 1 else ""
    raise UsageError(
        f"{what}; with privacy.delta = {privacy.delta:g} the run would promise delta {total:.3g} "
        f"for {samples} samples, not below {limit}",
        where="front.dp_sgd.delta",
        remedy=f"Lower front.dp_sgd.epsilon or front.dp_sgd.delta{yes}.",
    )


def _restated_delta(epsilon: float, delta: float, relation: Relation) -> float:
    """Return the delta of an add-remove promise under ``relation``; may be above 1, or infinite."""
    if relation == "zero-out":
        return delta
    # Not held at 1 as a charge is: the message shall say how far off it is.
    return delta * (1 + math.exp(epsilon)) if epsilon < 700 else math.inf

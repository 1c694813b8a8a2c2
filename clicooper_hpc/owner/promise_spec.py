"""The mechanism that a job's promise is solved to, from the outline of its front alone."""

from __future__ import annotations

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.moments_setup import job_promise
from clicooper_hpc.owner.release_mechanism import mechanism_guarantee
from clicooper_hpc.privacy.gradient_sums import SplitPromise
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec

__all__ = ["promise_spec"]


def promise_spec(
    job: Job, shape: tuple[int, ...], *, non_negative: bool, classes: int
) -> ReleaseSpec | None:
    """Return the solved promise of ``job``, in any release mode; None with privacy off.

    Where several releases share the promise, that of all together. ``shape`` and ``non_negative``
    are those of the front's rows, ``classes`` of the private samples.

    Raises
    ------
    UsageError
        There is no such mechanism.
    """
    if not job.privacy.enabled:
        return None
    if job.release.mode == "rows":
        return solve_release_spec(mechanism_guarantee(job, shape, non_negative=non_negative))
    promise = job_promise(job, int(np.prod(shape)), classes)
    return promise.whole if isinstance(promise, SplitPromise) else promise

"""The run that a job's front comes from: read and compared once, at the beginning of a run."""

from __future__ import annotations

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.fronts.delivered_network import DeliveredNetwork
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.verification.front_run import check_front_run, read_front_run

__all__ = ["check_front_source", "compared_front_run"]


def compared_front_run(job: Job, data: DataSet) -> DeliveredNetwork | None:
    """Return the verified network of ``front.kind = "run"``, its data compared with ``data``.

    None where the job takes no run's network; errors as `read_front_run`.
    """
    delivered = read_front_run(job)
    return None if delivered is None else delivered.compare_data(data)


def check_front_source(job: Job, front: Front) -> None:
    """Refuse a restart whose job now names another run than ``front`` was made from.

    Raises
    ------
    EvidenceError
        See `clicooper_hpc.verification.front_run.check_front_run`.
    """
    if job.front.run is not None and front.origin.run is not None:
        check_front_run(job.front.run, front.origin.run)

"""Whether a restart can begin: there is a run, of the same job, with its owner's secrets.

Only rank 0 asks; what it finds goes to all ranks as a `RunRequest`.
"""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.owner.secrets import missing_owner_secrets
from clicooper_hpc.run.vouching import JOB_DIGEST, vouched_job
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.regular_files import refuse_irregular_entries
from clicooper_hpc.runstore.run_folder import JOB_FOLDER, RunFolder

__all__ = ["can_restart", "check_restart_job", "job_to_restart"]


def can_restart(path: Path) -> bool:
    """Whether a run has begun in the folder ``path``."""
    return RunFolder(path).index.is_file()


def check_restart_job(job: Job, path: Path) -> None:
    """Raise unless the run in ``path`` was made from ``job``, but for how it is carried out.

    Raises
    ------
    UsageError
        It was made from another, with the first key that differs.
    """
    difference = job.first_difference(open_run(path).job)
    if difference is not None:
        key, then, now = difference
        raise UsageError(
            f"the run was begun with {then!r}, the job says {now!r}",
            where=key,
            remedy="Change it back, or train anew in another folder, which releases every "
            "sample a second time.",
        )


def job_to_restart(path: Path, ranks: int) -> Job | None:
    """Return the job of the run in ``path``, None if the run is complete.

    Raises
    ------
    RunFolderError
        There is no run, its owner's secrets are not there, or its folder holds links.
    EvidenceError
        Nobody vouches for the job text (`clicooper_hpc.run.vouching`).
    UsageError
        It takes another number of ranks.
    """
    run = open_run(path)
    if run.status == "complete":
        return None
    # Cuts, keys and channels are those of the ranks it began with.
    if ranks != len(run.hosts):
        raise UsageError(
            f"the run has {len(run.hosts)} ranks, but {ranks} were started",
            where=str(run.folder.path),
            remedy=f"Start it with: mpirun -n {len(run.hosts)} clicooper resume {path}",
        )
    # What is missing would be made anew: it would be another run, or a second release.
    missing = missing_owner_secrets(run.folder.private, "front.probe", JOB_FOLDER, JOB_DIGEST)
    if missing:
        raise RunFolderError(
            f"the owner's secrets are not there ({missing[0]} is missing), so the released rows "
            "cannot be made again",
            where=str(run.folder.private),
            remedy="Bring back the private folder of the run; or train anew in another folder, "
            "which releases every sample a second time.",
        )
    # What is written from here on must land in the folder itself.
    refuse_irregular_entries(run.folder.path)
    return vouched_job(run)

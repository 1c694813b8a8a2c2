"""Whose word the job text of a run folder is: looked into before anything acts on that text.

A job names files to read, devices, and modules to import. The text of it in ``run.h5`` is the word
of whoever wrote that file. Three things vouch for it, and all that are there must agree: the
private note of the digest that the run began with, the digest stored beside the text, and the run
statement, the ledger's first entry, signed with the owner's key. That key is the one noted in the
private folder, or one that the user gives. The private folder itself is trusted: it is the
reader's own, and nobody hands it on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.statements import RunStatement, parse_signed_statement
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import JOB_FOLDER
from clicooper_hpc.runstore.tables.schema import LEDGER

__all__ = [
    "JOB_DIGEST",
    "PUBLIC_KEY",
    "check_noted_job",
    "note_job",
    "noted_owner_key",
    "vouched_job",
]

#: Files of a private folder: digest (hex) of the job a run began with; public key (hex) of a rank.
JOB_DIGEST: Final = "job.digest"
PUBLIC_KEY: Final = "identity.pub"
_JOB_TAG: Final = "clicooper/v1/job"
_REMEDY: Final = (
    "Nothing the text names was read or run. Bring back the run.h5 that the run wrote, or ask its "
    "owner."
)

_log = logging.getLogger(__name__)


def note_job(folder: PrivateFolder, digest: str) -> None:
    """Note the digest (hex) of the job a run begins with; not for a restart."""
    folder.write_secret(JOB_DIGEST, digest.encode())


def check_noted_job(folder: PrivateFolder, digest: str, *, where: str) -> None:
    """Compare the digest (hex) of a job with the one noted when the run began.

    Raises
    ------
    EvidenceError
        They differ.
    RunFolderError
        None is noted.
    """
    noted = _read_note(folder, JOB_DIGEST)
    if noted != digest:
        raise EvidenceError(
            f"the job text has the digest {digest[:16]}..., the run began with {noted[:16]}...",
            where=where,
            remedy=_REMEDY,
        )


def noted_owner_key(run: Run) -> PublicIdentity | None:
    """Return the owner's public key as noted in the private folder, None if it is not there."""
    place = run.folder.private / "rank-000"
    if not (place / PUBLIC_KEY).is_file():
        return None
    folder = PrivateFolder(place)
    try:
        return PublicIdentity.from_raw(bytes.fromhex(_read_note(folder, PUBLIC_KEY)))
    except (ValueError, EvidenceError):
        raise _damaged(folder, PUBLIC_KEY) from None


def vouched_job(run: Run, *, owner_key: PublicIdentity | None = None) -> Job:
    """Return the job of a run, once its text is vouched for; nothing it names is touched before.

    Parameters
    ----------
    run
        With its owner's private folder.
    owner_key
        The owner's key, where the user insists on one; else the one noted in the private folder.

    Raises
    ------
    EvidenceError
        The text is not the job that was noted or signed.
    RunFolderError
        The private notes are missing, or this version knows no such job.
    """
    text = str(run.attrs["resolved_job"])
    where = f"{run.folder.index}, resolved_job"
    digest = digest_bytes(_JOB_TAG, text.encode()).hex
    private = PrivateFolder(run.folder.private)
    check_noted_job(private, digest, where=where)
    if run.attrs["job_digest"] != digest:
        raise EvidenceError("job_digest is not the digest of the text", where=where, remedy=_REMEDY)
    _check_run_statement(run, digest, owner_key or noted_owner_key(run), where)
    # Where the job file lay: modules it names are found there.
    return load_canonical_job(text, _read_note(private, JOB_FOLDER))


def _check_run_statement(run: Run, digest: str, key: PublicIdentity | None, where: str) -> None:
    entry = _first_entry(run)
    if entry is None:
        # Killed before the owner signed it, or made without proofs.
        _log.info(
            "no signed statement vouches for the job of this run; trusted is the note in %s",
            run.folder.private / JOB_DIGEST,
        )
        return
    if key is None:
        raise RunFolderError(
            "the ledger is signed, but the owner's key is not noted here",
            where=str(run.folder.private / "rank-000" / PUBLIC_KEY),
            remedy="Bring back the private folder of the run.",
        )
    _, statement = parse_signed_statement(
        entry, RunStatement, key, where=f"{run.folder.path}, run statement of the ledger"
    )
    if (statement.job_digest, statement.run_id) != (digest, run.attrs["run_id"]):
        raise EvidenceError(
            "the owner signed another job, or the job of another run", where=where, remedy=_REMEDY
        )


def _first_entry(run: Run) -> bytes | None:
    if 0 in run.missing_ranks:
        return None
    for table, rows in run.stored_rows(0).items():
        if table.name == LEDGER.name and len(rows["envelope"]):
            return bytes(rows["envelope"][0])
    return None


def _read_note(folder: PrivateFolder, name: str) -> str:
    if name not in folder:
        raise RunFolderError(
            "what the run began with is not noted here",
            where=str(folder.path / name),
            remedy="Bring back the private folder of the run.",
        )
    try:
        return folder.read_secret(name).decode()
    except UnicodeDecodeError:
        raise _damaged(folder, name) from None


def _damaged(folder: PrivateFolder, name: str) -> RunFolderError:
    path: Path = folder.path / name
    return RunFolderError(
        "the private note is damaged",
        where=str(path),
        remedy="Bring back the file the run wrote.",
    )

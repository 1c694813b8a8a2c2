"""Credentials of each rank: its identity and mark key, and which keys the job allows."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import RunFolderError, UsageError
from clicooper_hpc.provenance.identity import Identity, PublicIdentity
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import IDENTITY_FILE, MARK_KEY_FILE

__all__ = ["PASSWORD_VARIABLE", "Credentials", "check_credentials", "obtain_credentials"]

PASSWORD_VARIABLE = "CLICOOPER_KEY_PASSWORD"  # noqa: S105 - the name of a variable
_KEY_BYTES = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets of one rank. ``mark_master`` (32 bytes) gives the mark key of every stage."""

    identity: Identity
    mark_master: bytes = field(repr=False)


def obtain_credentials(job: Job, private: Path, rank: int, *, is_restart: bool) -> Credentials:
    """Read or make the secrets of ``rank``; what is made is kept in ``private`` (mode 0600).

    ``is_restart``: the run has begun before, so nothing is made.

    Raises
    ------
    UsageError
        The key file is missing, damaged, or not opened by the password.
    EnvironmentUnfitError
        The private folder cannot be used.
    """
    # One folder a rank: where ranks run as different users none may read another's keys.
    folder = PrivateFolder(private / f"rank-{rank:03d}")
    # A key made anew would sign as somebody else, and marks of another key could not be opened:
    # better to refuse than to find that out at the end.
    if is_restart:
        _require_credentials(
            folder, MARK_KEY_FILE, *([] if job.provenance.identities else [IDENTITY_FILE])
        )
    if job.provenance.identities is not None:
        identity = _read_identity(Path(job.folder) / job.provenance.identities, rank)
    # From a start that was killed before the run began, or of the run to restart.
    elif IDENTITY_FILE in folder:
        identity = Identity.from_pem(folder.read_secret(IDENTITY_FILE))
    else:
        identity = Identity.generate()
        folder.write_secret(IDENTITY_FILE, identity.to_pem())
        if rank == 0:
            _log.info(
                "identities: made for this run (provenance.identities is not set): the proofs "
                "show that the same keys signed throughout, not whose they are"
            )
    # From the operating system and kept apart from the identity: whoever has it can erase marks,
    # and it must be possible to open marks without giving the signing key away.
    if MARK_KEY_FILE not in folder:
        folder.write_secret(MARK_KEY_FILE, secrets.token_bytes(_KEY_BYTES))
    return Credentials(identity, folder.read_secret(MARK_KEY_FILE))


def _require_credentials(folder: PrivateFolder, *names: str) -> None:
    for name in names:
        if name not in folder:
            raise RunFolderError(
                "the key is missing that this rank began the run with",
                where=str(folder.path / name),
                remedy="Bring it back; with another key the run cannot continue.",
            )


def check_credentials(job: Job, keys: Sequence[PublicIdentity]) -> None:
    """Compare the ranks' keys (owner first) with those the job names.

    Raises
    ------
    UsageError
        Naming the first rank whose key is not the one of the job, or is another rank's.
    """
    # None: the job names nobody, so whoever takes part is allowed.
    allowed: list[str | None] = [job.provenance.owner]
    allowed += job.provenance.trainers or [None] * (len(keys) - 1)
    if len(allowed) != len(keys):
        raise UsageError(
            f"{len(allowed) - 1} trainers are named, but {len(keys) - 1} were started",
            where="provenance.trainers",
            remedy="Name one public key per segment.",
        )
    for rank, (key, wanted) in enumerate(zip(keys, allowed, strict=True)):
        if wanted not in (None, key.raw.hex()):
            raise UsageError(
                f"rank {rank} has the public key {key.raw.hex()}, the job names {wanted}",
                where="provenance.owner" if rank == 0 else "provenance.trainers",
                remedy="Give every rank its own key file, or correct the job.",
            )
    # An end of a hand-off that holds both keys could sign for both ends.
    if len({key.keyid for key in keys}) != len(keys):
        raise UsageError(
            "two ranks have the same key: one could sign for the other",
            where="provenance.identities",
            remedy="Make one key per rank and use {rank} in the path.",
        )


def _read_identity(template: Path, rank: int) -> Identity:
    path = Path(str(template).replace("{rank}", str(rank)))
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the key file of rank {rank} cannot be read ({error.strerror})",
            where=str(path),
            remedy="Make it with `clicooper keys new`, or correct provenance.identities.",
        ) from error
    # A key is held by whoever can read it: then a signature no longer says who signed.
    if path.stat().st_mode & 0o077:
        raise UsageError(
            f"other users may read the private key of rank {rank}",
            where=str(path),
            remedy=f"Run `chmod 600 {path}`.",
        )
    try:
        return Identity.from_pem(content, password.encode() if password else None)
    except UsageError as error:
        raise UsageError(
            error.what,
            where=str(path),
            remedy=f"If it is encrypted, set {PASSWORD_VARIABLE} to its password.",
        ) from None

"""`clicooper keys new`: an Ed25519 identity in a file only its owner can read."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.run.credentials import PASSWORD_VARIABLE
from clicooper_hpc.runstore.atomic_files import write_private_atomically

__all__ = ["new_identity"]


def new_identity(path: Path, *, encrypt: bool) -> str:
    """Make an identity in ``path`` (PEM, mode 0600) and return its public key as hex.

    With ``encrypt`` the password comes from the environment variable `PASSWORD_VARIABLE`, else
    from the terminal, asked twice.

    Raises
    ------
    UsageError
        The file is there already, or there is no password.
    EnvironmentUnfitError
        The file cannot be written.
    """
    if path.exists():
        raise UsageError(
            "there is a file already, and a key is never overwritten",
            where=str(path),
            remedy="Choose another name.",
        )
    identity = Identity.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private_atomically(path, identity.to_pem(_password() if encrypt else None))
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the key cannot be written ({error.strerror})",
            where=str(path),
            remedy="Choose a folder you may write to.",
        ) from error
    return identity.public.raw.hex()


def _password() -> bytes:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None and sys.stdin.isatty():
        given = getpass.getpass("password of the new key: ")
        if getpass.getpass("the same again: ") != given:
            raise UsageError("the two passwords differ", remedy="Try again.")
    if not given:
        raise UsageError(
            "there is no password to encrypt the key with",
            where=PASSWORD_VARIABLE,
            remedy="Set this variable, or run on a terminal, or leave out --encrypt.",
        )
    return given.encode()

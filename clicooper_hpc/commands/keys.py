"""`clicooper keys new` and `keys open-mark`: make an identity, show the key of one mark."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from clicooper_hpc.commands.command import Command, add_json_option, print_facts, print_report
from clicooper_hpc.errors import EnvironmentUnfitError, ExitCode, UsageError

__all__ = ["KEYS_NEW", "KEYS_OPEN_MARK", "make_key_file"]


def _add_new_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.pem")
    parser.add_argument("--encrypt", action="store_true", help="protect it with a password")
    add_json_option(parser)


def _new_key(arguments: argparse.Namespace) -> int:
    public = make_key_file(arguments.file, encrypt=arguments.encrypt)
    if arguments.json:
        return print_facts({"public_key": public, "file": arguments.file})
    print_report(f"{public}  {arguments.file}")
    return ExitCode.DONE


def _add_open_mark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--segment", type=int, required=True, metavar="I", help="from 1")
    parser.add_argument("--stage", type=int, required=True, metavar="S", help="from 0")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    add_json_option(parser)


def _open_mark(arguments: argparse.Namespace) -> int:
    from clicooper_hpc.verification.marks.opening import write_mark_opening

    write_mark_opening(
        arguments.run, segment=arguments.segment, stage=arguments.stage, output=arguments.output
    )
    if arguments.json:
        return print_facts({"output": arguments.output})
    print_report(f"wrote {arguments.output}: whoever has it can read this mark, and erase it")
    return ExitCode.DONE


def make_key_file(path: Path, *, encrypt: bool) -> str:
    """Make an identity in ``path`` (PEM, mode 0600) and return its public key as hex.

    With ``encrypt`` the password comes from the environment variable `CLICOOPER_KEY_PASSWORD`, else
    from the terminal, asked twice.

    Raises
    ------
    UsageError
        The file is there already, or there is no password.
    EnvironmentUnfitError
        The file cannot be written.
    """
    from clicooper_hpc.provenance.identity import Identity
    from clicooper_hpc.runstore.atomic_files import write_private_atomically

    if path.exists():
        raise UsageError(
            "there is a file already, and a key is never overwritten",
            where=str(path),
            remedy="Choose another name.",
        )
    identity = Identity.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private_atomically(
            path, identity.to_pem(_password() if encrypt else None), foreign_folder=True
        )
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the key cannot be written ({error.strerror})",
            where=str(path),
            remedy="Choose a folder you may write to.",
        ) from error
    return identity.public.raw.hex()


def _password() -> bytes:
    from clicooper_hpc.run.credentials import PASSWORD_VARIABLE

    # The variable goes first: batch jobs have no terminal to ask on.
    given = os.environ.get(PASSWORD_VARIABLE)
    if given is None and sys.stdin.isatty():
        given = getpass.getpass("password of the new key: ")
        # Asked twice: a key behind a mistyped password is lost.
        if getpass.getpass("the same again: ") != given:
            raise UsageError("the two passwords differ", remedy="Try again.")
    if not given:
        raise UsageError(
            "there is no password to encrypt the key with",
            where=PASSWORD_VARIABLE,
            remedy="Set this variable, or run on a terminal, or leave out --encrypt.",
        )
    return given.encode()


KEYS_NEW = Command("new", "make an Ed25519 identity", _add_new_options, _new_key)
KEYS_OPEN_MARK = Command(
    "open-mark",
    "show the key of one stage's mark",
    _add_open_mark_options,
    _open_mark,
    guarded=True,
)

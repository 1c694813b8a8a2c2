"""Agreement of all ranks on each step of the preparation: one fails, all end, one says why.

What the owner told every trainer by itself, trainers compare among themselves at the end.
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from clicooper_hpc.errors import ClicooperError, ExitCode, PeerError, error_of_path
from clicooper_hpc.printable import printable_text
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import World

__all__ = [
    "AgreedFailure",
    "FailureReporter",
    "abort_unagreed",
    "agree",
    "check_told_alike",
    "print_agreement_failure",
]

_T = TypeVar("_T")
_DIGEST_BYTES = 32
#: Called with the rank that failed, the number of ranks, and one line.
FailureReporter = Callable[[int, int, str], None]


class AgreedFailure(Exception):  # noqa: N818 - not an error of this rank
    """All ranks know of the failure of one, and it has been reported."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def print_agreement_failure(rank: int, size: int, message: str) -> None:
    """Print one line of rank ``rank`` to standard error."""
    role = "owner" if rank == 0 else f"trainer {rank}"
    # Not through logging: a rank's failure must show even before it is configured, and with -q.
    line = printable_text(f"clicooper: {rank}/{size} {role}: {message}")
    write_error_line(line)


def agree(
    world: World,
    action: Callable[[], _T],
    *,
    deadline_s: float,
    report: FailureReporter = print_agreement_failure,
) -> _T:
    """Do ``action`` on this rank and learn whether every rank's went well.

    Raises
    ------
    AgreedFailure
        On all ranks, if it failed on one; rank 0 has said why.
    """
    failure: BaseException | None = None
    code, message = 0, ""
    try:
        result = action()
    except ClicooperError as error:
        failure, code, message = error, int(error.exit_code), error.line()
    except Exception as error:  # noqa: BLE001 - a bug of ours: reported like an error, with its trace
        # A folder or file of the user's that may not be read is no internal error of the package.
        unfit = error_of_path(error)
        if unfit is None:
            traceback.print_exc()
            failure, code, message = error, int(ExitCode.INTERNAL), f"internal error: {error!r}"
        else:
            failure, code, message = error, int(unfit.exit_code), unfit.line()
    # Every rank takes part, failed or not: one that left here would leave the others waiting until
    # their deadline.
    verdict = world.allreduce_failure(code, message, deadline_s=deadline_s)
    # ``failure`` too: a failed rank must not go on, whatever the verdict says.
    if verdict.code or failure is not None:
        # A rank whose failure rank 0 denies speaks for itself.
        if world.rank == 0 or not verdict.is_shared:
            # One rank reports for all: N ranks with the same mistake in one job file would print it
            # N times.
            report(verdict.rank, world.size, verdict.message)
        raise AgreedFailure(verdict.code or code)
    return result


def abort_unagreed(
    world: World, error: BaseException, *, report: FailureReporter = print_agreement_failure
) -> NoReturn:
    """Report a failure that the ranks have not agreed on, once, and end every rank."""
    error = error_of_path(error) or error
    if isinstance(error, ClicooperError):
        report(world.rank, world.size, error.line())
        world.abort(int(error.exit_code))
    if isinstance(error, KeyboardInterrupt):
        report(world.rank, world.size, "interrupted")
        world.abort(130)
    if isinstance(error, SystemExit):
        raise error
    traceback.print_exception(error)
    report(world.rank, world.size, f"internal error: {error!r}")
    world.abort(int(ExitCode.INTERNAL))


def check_told_alike(world: World, told: Mapping[str, bytes], *, deadline_s: float) -> None:
    """Compare what this trainer was ``told`` with what the one before was; the owner does nothing.

    Told different things, two honest trainers would later refuse each other's messages, and each
    would name the other.

    Parameters
    ----------
    told
        What the owner sent, by its name in an error; the same names in the same order on all.
    deadline_s
        Longest wait for a neighbour.

    Raises
    ------
    PeerError
        The rank before was told something else.
    """
    if world.rank == 0:
        return
    mine = b"".join(hashlib.sha256(content).digest() for content in told.values())
    if world.rank < world.size - 1:
        world.send_blob(
            world.rank + 1, mine, kind=Kind.CONTROL, step=world.rank, deadline_s=deadline_s
        )
    if world.rank == 1:
        return
    before = world.rank - 1
    theirs = bytes(
        world.receive_blob(
            before, kind=Kind.CONTROL, step=before, limit_bytes=len(mine), deadline_s=deadline_s
        )
    )
    if theirs == mine:
        return
    places = range(0, len(mine), _DIGEST_BYTES)
    same = [mine[one : one + _DIGEST_BYTES] == theirs[one : one + _DIGEST_BYTES] for one in places]
    names = [name for name, is_same in zip(told, same, strict=True) if not is_same]
    raise PeerError(
        f"rank {before} was told something else than rank {world.rank}: {', '.join(names)}",
        where="messages from rank 0 (control)",
        remedy=f"Run one clicooper_hpc version on all ranks; else rank 0 tells trainers different "
        f"things, or rank {before} says so falsely",
    )

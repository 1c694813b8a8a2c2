"""Tests that take several ranks: a file all of them see, their clocks, message times."""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from clicooper_hpc.doctor.diagnosis import Diagnosis
from clicooper_hpc.doctor.run_folder import judge_shared_folder
from clicooper_hpc.runstore.atomic_files import write_private_atomically
from clicooper_hpc.runstore.folder_probe import probe_trial_folder
from clicooper_hpc.transport.self_test import HopTime, run_self_test
from clicooper_hpc.transport.world import World

__all__ = [
    "LIMIT_S",
    "exchange_between_ranks",
    "judge_exchanged_clocks",
    "judge_exchanged_messages",
]

#: Longest wait for one rank, which may still import its packages over a network.
LIMIT_S = 120.0
_PLACE_BYTES = 8192
_TIME = struct.Struct("<d")
_TOKEN_BYTES = 16
# NFS clients keep what a folder holds for a few seconds before they ask again.
_SEEN_AFTER_S = 5.0
_POLL_S = 0.1
_SKEW_S = 1.0


def exchange_between_ranks(world: World, folder: Path | None) -> list[Diagnosis]:
    """Test files, clocks and messages; all ranks must call this, rank 0 gets the findings.

    Parameters
    ----------
    world
        The ranks.
    folder
        At rank 0 a folder it can write to, ``None`` if there is none; not looked at elsewhere.
    """
    # Not a warning: most first calls are made without mpirun, to see whether the machine is fit.
    if world.size == 1:
        text = "not tested; start with `mpirun -n 2 clicooper doctor` to test links"
        return [Diagnosis("messages", "ok", text)]
    findings = [*_shared(world, folder), *_clocks(world)]
    hops = run_self_test(world, deadline_s=LIMIT_S).hops
    return [*findings, judge_exchanged_messages(hops)] if world.rank == 0 else []


def _shared(world: World, folder: Path | None) -> list[Diagnosis]:
    if world.rank != 0:
        place = world.broadcast_bytes(None, limit_bytes=_PLACE_BYTES, deadline_s=LIMIT_S)
        answer = _look(place) if place else ""
        world.gather_bytes(answer.encode(), limit_bytes=_PLACE_BYTES, deadline_s=LIMIT_S)
        return []
    with ExitStack() as stack:
        place = _leave_token(folder, stack) if folder else b""
        world.broadcast_bytes(place, limit_bytes=_PLACE_BYTES, deadline_s=LIMIT_S)
        # Within the `with`: the file must be there until all ranks have looked.
        answers = world.gather_bytes(b"", limit_bytes=_PLACE_BYTES, deadline_s=LIMIT_S)
    if not place:
        return []  # what is wrong with the folder has been found already
    return list(
        judge_shared_folder(str(folder), [one.decode("utf-8", "replace") for one in answers or ()])
    )


def _leave_token(folder: Path, stack: ExitStack) -> bytes:
    """Write a random token into a new file in ``folder``; return token and path, b"" if not."""
    # Random, so that a file of an earlier trial, or of another host's /tmp, is not taken for this
    # one.
    token = secrets.token_bytes(_TOKEN_BYTES)
    try:
        path = Path(stack.enter_context(probe_trial_folder(folder))) / "token"
        write_private_atomically(path, token)
    except OSError:
        return b""
    return token + os.fsencode(path)


def _look(place: bytes) -> str:
    """Read rank 0's file; network file systems may show it late. Return "" or what is wrong."""
    token, path = place[:_TOKEN_BYTES], Path(os.fsdecode(place[_TOKEN_BYTES:]))
    end = time.monotonic() + _SEEN_AFTER_S
    while True:
        try:
            if path.read_bytes() == token:
                return ""
            reason = "it has another content"
        except OSError as error:
            reason = error.strerror or type(error).__name__
        if time.monotonic() > end:
            return reason
        time.sleep(_POLL_S)


def _clocks(world: World) -> list[Diagnosis]:
    """Ask all ranks for the time at once; only what is outside of question and answer is skew."""
    asked = time.time()
    world.broadcast_bytes(b"?" if world.rank == 0 else None, limit_bytes=1, deadline_s=LIMIT_S)
    mine = _TIME.pack(time.time())
    answers = world.gather_bytes(mine, limit_bytes=_TIME.size, deadline_s=LIMIT_S)
    answered = time.time()
    times = [float(_TIME.unpack(answer)[0]) for answer in answers or ()]
    return list(judge_exchanged_clocks(times, asked, answered)) if times else []


def judge_exchanged_clocks(
    times: Sequence[float], asked: float, answered: float
) -> Iterator[Diagnosis]:
    """Judge the clocks of all ranks.

    Parameters
    ----------
    times
        What every rank's clock showed, in seconds.
    asked, answered
        What rank 0's clock showed before and after.
    """
    # The message takes time too; a clock that shows a time between question and answer may be
    # right.
    apart = [max(asked - shown, shown - answered, 0.0) for shown in times]
    late = [rank for rank, seconds in enumerate(apart) if seconds > _SKEW_S]
    if not late:
        within = f"{max(apart):.3f} s apart at most, measured to {answered - asked:.3f} s"
        yield Diagnosis("clocks", "ok", within)
    for rank in late:
        text = f"the clock is {apart[rank]:.1f} s apart from rank 0's, and proofs carry times"
        remedy = "Let the hosts keep time by NTP (chronyd, systemd-timesyncd)"
        yield Diagnosis("clocks", "warning", text, remedy, (rank,))


def judge_exchanged_messages(hops: Sequence[HopTime]) -> Diagnosis:
    """Tell how long messages take between neighbours: the slowest pair of ranks for each size."""
    parts = []
    for size in sorted({hop.payload_bytes for hop in hops}):
        slowest = max(
            (hop for hop in hops if hop.payload_bytes == size), key=lambda hop: hop.microseconds
        )
        name = _bytes(size)
        pair = f"ranks {slowest.source}-{slowest.target}"
        parts.append(f"{name} {slowest.microseconds:.0f} us ({pair})")
    return Diagnosis("messages", "ok", f"one way, slowest neighbours: {', '.join(parts)}")


def _bytes(number: int) -> str:
    if number < 2**10:
        return f"{number} B"
    return f"{number / 2**10:g} KiB" if number < 2**20 else f"{number / 2**20:g} MiB"

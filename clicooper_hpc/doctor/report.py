"""`clicooper doctor`: is this machine, and this launch, fit for a run? What to change if not.

Every rank collects facts about itself (`doctor_facts`), rank 0 judges them all by pure rules
(`doctor_launch`, `doctor_cores`, `doctor_folder`), and a few things all ranks try out together
(`doctor_exchange`).
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clicooper_hpc.doctor.cores import judge_cores, judge_gpus
from clicooper_hpc.doctor.diagnosis import Diagnosis, as_json, as_text, exit_code, merged
from clicooper_hpc.doctor.exchange import LIMIT_S, exchange
from clicooper_hpc.doctor.facts import FACTS, RankFacts, collect
from clicooper_hpc.doctor.folder import judge_folders
from clicooper_hpc.doctor.launch import judge_launch, judge_versions, other_family
from clicooper_hpc.errors import ClicooperError, ExitCode
from clicooper_hpc.transport.launcher import Launcher, read_launcher
from clicooper_hpc.transport.mpi_library import check_mpi_world, find_mpi_library, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["examine"]

_FACTS_BYTES = 2**16
_WIDTH = 100  # where the output goes through a launcher, whose pipe has none


def examine(folder: Path, say: Callable[[str], None], *, json: bool = False) -> int:
    """Examine the environment of every rank; rank 0 tells. Exit code 5 if a rank is unfit.

    Parameters
    ----------
    folder
        Where runs will be written; need not exist.
    say
        Prints, at once: ranks that end with exit code 5 may end rank 0 with them.
    json
        Tell it to a script.
    """
    launcher = read_launcher(os.environ)
    library, world = "", None
    try:
        library = find_mpi_library()
        _warn(launcher, library)
        world = start_mpi()
        check_mpi_world(world)
    except ClicooperError as error:
        if not launcher.rank:
            facts = collect(launcher, library, world, folder, error)
            _tell(merged(_judge([facts]), 1), [socket.gethostname()], say, json)
        elif world is not None:
            # Rank 0 knows the same and tells it; a bad exit here could end it before it has.
            return ExitCode.DONE
        else:  # perhaps on this host only
            _complain(f"rank {launcher.rank}: {error.line()}")
        return ExitCode.ENVIRONMENT
    with world:
        try:
            return _together(collect(launcher, library, world, folder), world, say, json)
        except ClicooperError as error:
            _complain(f"rank {world.rank}: {error.line()}")
            world.abort(ExitCode.ENVIRONMENT)


def _complain(text: str) -> None:
    sys.stderr.write(f"clicooper: {text}\n")
    sys.stderr.flush()


def _warn(launcher: Launcher, library: str) -> None:
    """Say what is suspicious before MPI starts, for MPI may end the process without our word."""
    strange = other_family(launcher, library)
    if strange and not launcher.rank:
        _complain(f"{strange}; if MPI fails now, that is why")


def _together(facts: RankFacts, world: World, say: Callable[[str], None], json: bool) -> int:
    gathered = world.gather_bytes(
        FACTS.dump_json(facts), limit_bytes=_FACTS_BYTES, deadline_s=LIMIT_S
    )
    tried = facts.folder
    found = exchange(world, Path(tried.path) if tried and not tried.writing else None)
    code = None
    if gathered is not None:
        judged = _judge([FACTS.validate_json(part) for part in gathered])
        findings = merged([*judged, *found], world.size)
        _tell(findings, world.processors, say, json)
        code = bytes([exit_code(findings)])
    return world.broadcast_bytes(code, limit_bytes=1, deadline_s=LIMIT_S)[0]


def _judge(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    yield from judge_launch(facts)
    yield from judge_versions(facts)
    yield from judge_cores(facts)
    yield from judge_gpus(facts)
    yield from judge_folders(facts)


def _tell(
    findings: Sequence[Diagnosis], hosts: Sequence[str], say: Callable[[str], None], json: bool
) -> None:
    if json:
        say(as_json(findings, hosts=hosts))
    else:
        width = max(60, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
        say(as_text(findings, hosts=hosts, width=width))

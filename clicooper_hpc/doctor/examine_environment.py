"""`clicooper doctor` on every rank: facts collected, judged and reported by rank 0.

Every rank collects facts about itself (`rank_facts`), rank 0 judges them all by pure rules
(`launch`, `cores_gpus`, `run_folder`), and a few things all ranks try out together
(`rank_exchange`).
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clicooper_hpc.doctor.cores_gpus import judge_cores, judge_gpus
from clicooper_hpc.doctor.diagnosis import (
    Diagnosis,
    diagnoses_as_json,
    diagnoses_as_text,
    diagnosis_exit_code,
    merge_diagnoses,
)
from clicooper_hpc.doctor.launch import foreign_launcher, judge_launch, judge_launch_versions
from clicooper_hpc.doctor.rank_exchange import LIMIT_S, exchange_between_ranks
from clicooper_hpc.doctor.rank_facts import FACTS, RankFacts, collect_facts, read_rank_facts
from clicooper_hpc.doctor.run_folder import judge_run_folders
from clicooper_hpc.errors import ClicooperError, ExitCode, PeerError
from clicooper_hpc.printable import printable_text
from clicooper_hpc.standard_streams import write_error_line
from clicooper_hpc.transport.launcher import Launcher, read_launcher
from clicooper_hpc.transport.mpi_library import check_mpi_world, find_mpi_library, start_mpi
from clicooper_hpc.transport.world import World

__all__ = ["examine_environment"]

_FACTS_BYTES = 2**16
_VERDICTS = (bytes([ExitCode.DONE]), bytes([ExitCode.ENVIRONMENT]))
_WIDTH = 100  # where the output goes through a launcher, whose pipe has none


def examine_environment(folder: Path, say: Callable[[str], None], *, json: bool = False) -> int:
    """Examine the environment of every rank; rank 0 reports. Exit code 5 if a rank is unfit.

    Parameters
    ----------
    folder
        Where runs will be written; need not exist.
    say
        Prints, at once: ranks that end with exit code 5 may end rank 0 with them.
    json
        Tell it to a script.
    """
    # From the environment, because it must work where MPI does not start.
    launcher = read_launcher(os.environ)
    library, world = "", None
    try:
        # Loaded before it is started: with a foreign launcher MPI_Init may end the process without
        # a word.
        library = find_mpi_library()
        _warn_of_launcher(launcher, library)
        world = start_mpi()
        check_mpi_world(world)
    except ClicooperError as error:
        if not launcher.rank:
            facts = collect_facts(launcher, library, world, folder, error)
            _print_diagnoses(
                merge_diagnoses(_judge_facts([facts]), 1), [socket.gethostname()], say, json
            )
        elif world is not None:
            # Rank 0 knows the same and reports it; a bad exit here could end it before it has.
            return ExitCode.DONE
        else:  # perhaps on this host only
            _write_error(f"rank {launcher.rank}: {error.line()}")
        return ExitCode.ENVIRONMENT
    with world:
        try:
            return _examine_together(
                collect_facts(launcher, library, world, folder), world, say, json
            )
        except ClicooperError as error:
            _write_error(f"rank {world.rank}: {error.line()}")
            # Other ranks may wait for this one; an ordinary exit would leave them there.
            world.abort(ExitCode.ENVIRONMENT)


def _write_error(text: str) -> None:
    write_error_line(printable_text(f"clicooper: {text}"))


def _warn_of_launcher(launcher: Launcher, library: str) -> None:
    """Say what is suspicious before MPI starts, for MPI may end the process without our word."""
    strange = foreign_launcher(launcher, library)
    if strange and not launcher.rank:
        _write_error(f"{strange}; if MPI fails now, that is why")


def _examine_together(
    facts: RankFacts, world: World, say: Callable[[str], None], json: bool
) -> int:
    gathered = world.gather_bytes(
        FACTS.dump_json(facts), limit_bytes=_FACTS_BYTES, deadline_s=LIMIT_S
    )
    tried = facts.folder
    found = exchange_between_ranks(world, Path(tried.path) if tried and not tried.writing else None)
    code = None
    if gathered is not None:
        judged = _judge_facts([read_rank_facts(part, rank) for rank, part in enumerate(gathered)])
        findings = merge_diagnoses([*judged, *found], world.size)
        _print_diagnoses(findings, world.processors, say, json)
        # All ranks leave with the same code: launchers report whichever comes first.
        code = bytes([diagnosis_exit_code(findings)])
    verdict = world.broadcast_bytes(code, limit_bytes=1, deadline_s=LIMIT_S)
    # This process ends with it: 75 would have a script start it again, and one of another command
    # would say what nobody has looked at.
    if verdict not in _VERDICTS:
        raise PeerError(
            "the exit code of the examination is impossible", where="message from rank 0 (control)"
        )
    return verdict[0]


def _judge_facts(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    yield from judge_launch(facts)
    yield from judge_launch_versions(facts)
    yield from judge_cores(facts)
    yield from judge_gpus(facts)
    yield from judge_run_folders(facts)


def _print_diagnoses(
    findings: Sequence[Diagnosis], hosts: Sequence[str], say: Callable[[str], None], json: bool
) -> None:
    if json:
        say(diagnoses_as_json(findings, hosts=hosts))
    else:
        width = max(60, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))
        say(diagnoses_as_text(findings, hosts=hosts, width=width))

"""Rules on MPI: library, launcher and versions of all ranks must belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from clicooper_hpc.doctor.diagnosis import Diagnosis
from clicooper_hpc.doctor.rank_facts import RankFacts
from clicooper_hpc.transport.launcher import Launcher
from clicooper_hpc.transport.mpi_library import mpi_library_family

__all__ = ["foreign_launcher", "judge_launch", "judge_launch_versions"]

_SAME = "Install the same environment on all nodes, or start all ranks from one shared folder"


def foreign_launcher(launcher: Launcher, library: str) -> str:
    """Say that a launcher is of another MPI family than the library; "" if it is not."""
    family = mpi_library_family(library)
    if not library or not launcher.name or launcher.family == family:
        return ""
    if not launcher.family:
        return f"{launcher.name} does not tell {family} of the other processes"
    return f"{launcher.name} does not belong to {library}"


def _remedy(facts: RankFacts) -> str:
    ours = mpi_library_family(facts.library)
    plugin = "pmix" if ours == "Open MPI" else "pmi2"
    mpiexec = facts.mpiexec or f"the mpiexec of {ours}"
    text = f"Start with {mpiexec}, or under Slurm with `srun --mpi={plugin}`"
    if facts.launcher.family:
        return f"{text}; or let MPI4PY_LIBMPI name the libmpi.so of the launcher"
    return text


def judge_launch(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    """Judge library and launcher by what all ranks know; ``facts`` in the order of ranks."""
    first = facts[0]
    # MPI did not start, so there is no world to compare ranks in.
    if first.size == 0:
        yield Diagnosis("mpi", "bad", first.mpi_error, first.mpi_remedy)
        return
    for rank in facts:
        files = " and ".join(rank.library_files) or "file unknown"
        text = f"{rank.library}, {files}"
        # An h5py built for another MPI loads a second library; calls may then land in either.
        if len(rank.library_files) > 1:
            remedy = "Use an h5py without MPI, or one built for the library of the job"
            yield Diagnosis("mpi", "warning", f"{text} in one process", remedy, (rank.rank,))
        # Two versions may speak other protocols and hang at the first message.
        elif rank.library != first.library:
            yield Diagnosis("mpi", "bad", f"{text}, not {first.library}", _SAME, (rank.rank,))
        else:
            yield Diagnosis("mpi", "ok", text, "", (rank.rank,))
    yield _launcher(first)


def _launcher(facts: RankFacts) -> Diagnosis:
    launcher, told = facts.launcher, facts.launcher.size
    strange = foreign_launcher(launcher, facts.library)
    # The classic of a foreign launcher: N processes, each of which believes to be alone.
    if told is not None and told > 1 and told != facts.size:
        text = f"the launcher started {told} processes, but MPI ({facts.library}) sees "
        text += f"{facts.size}" + (f": {strange}" if strange else "")
        return Diagnosis("launcher", "bad", text, _remedy(facts))
    if told is None:
        text = "none: this process is alone" if facts.size == 1 else "unknown"
        return Diagnosis("launcher", "ok", text)
    # One process works with any launcher; the warning is for the next, larger start.
    if told == 1 and strange:
        return Diagnosis(
            "launcher", "warning", f"{strange}: several ranks would be alone each", _remedy(facts)
        )
    return Diagnosis("launcher", "ok", f"{launcher.name} started {told}, MPI sees {facts.size}")


def judge_launch_versions(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    """Judge whether all ranks run the same packages."""
    first = facts[0].machine
    for rank in facts:
        machine = rank.machine
        other = [
            f"{name} {machine.packages.get(name)} instead of {version}"
            for name, version in first.packages.items()
            if machine.packages.get(name) != version
        ]
        # Empty for an installed package, whose version has been compared already.
        if machine.commit and first.commit and machine.commit != first.commit:
            other.append(f"commit {_short(machine.commit)} instead of {_short(first.commit)}")
        if other:
            yield Diagnosis("packages", "bad", f"{', '.join(other)} of rank 0", _SAME, (rank.rank,))
        else:
            yield Diagnosis("packages", "ok", _packages(rank), "", (rank.rank,))


def _packages(facts: RankFacts) -> str:
    found = [f"{name} {version}" for name, version in facts.machine.packages.items()]
    if facts.machine.commit:
        found[0] += f" ({_short(facts.machine.commit)})"
    return ", ".join(found)


def _short(commit: str) -> str:
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")

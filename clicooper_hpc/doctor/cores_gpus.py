"""Rules on ranks, cores, threads and GPUs of each host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from clicooper_hpc.doctor.diagnosis import Diagnosis, diagnosed_ranks
from clicooper_hpc.doctor.rank_facts import Machine, RankFacts

__all__ = ["judge_cores", "judge_gpus"]


def judge_cores(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    """Judge on each host whether the ranks have cores of their own, and threads that fit them."""
    for members in _hosts(facts):
        ranks = tuple(rank.rank for rank in members)
        machines = [rank.machine for rank in members]
        yield _cores(machines, ranks)
        yield _threads(machines, ranks)


def _hosts(facts: Sequence[RankFacts]) -> list[list[RankFacts]]:
    hosts: dict[str, list[RankFacts]] = {}
    for rank in facts:
        hosts.setdefault(rank.machine.host, []).append(rank)
    return list(hosts.values())


def _all_cores(machines: Sequence[Machine]) -> set[int]:
    return {core for machine in machines for core in machine.cores}


def _cores(machines: Sequence[Machine], ranks: tuple[int, ...]) -> Diagnosis:
    allowed, node = len(_all_cores(machines)), machines[0].node_cores
    text = "1 rank" if len(machines) == 1 else f"{len(machines)} ranks"
    text += f" on {allowed}"
    text += f" of {node} cores" if allowed < node else " cores"
    unbound = "(`mpirun --bind-to none`, `srun --cpu-bind=none`)"
    # A warning, not a fault: tests and demos on a laptop run so.
    if len(machines) > allowed:
        text += ": more ranks than cores"
        remedy = "Start fewer ranks per host; it works, but ranks wait for each other"
        if allowed < node:
            remedy = f"Ask for more cores (Slurm: --cpus-per-task), or for no binding {unbound}"
        return Diagnosis("cores", "warning", text, remedy, ranks)
    crowded = _crowded(machines, ranks)
    if crowded:
        remedy = f"Bind each rank to cores of its own, or none {unbound}"
        return Diagnosis("cores", "warning", f"{text}: {crowded}", remedy, ranks)
    most = max(len(machine.cores) for machine in machines)
    bound = "not bound" if most == allowed else f"bound, at most {most} cores each"
    return Diagnosis("cores", "ok", f"{text}, {bound}", "", ranks)


def _crowded(machines: Sequence[Machine], ranks: tuple[int, ...]) -> str:
    """Say which ranks are bound to the same few cores; "" if none are."""
    for cores, users in Counter(machine.cores for machine in machines).items():
        # A set of cores may be shared as long as each rank can have one of them.
        if users > len(cores):
            same = [r for r, machine in zip(ranks, machines, strict=True) if machine.cores == cores]
            return f"{diagnosed_ranks(same)} are bound to the same {len(cores)}"
    return ""


def _threads(machines: Sequence[Machine], ranks: tuple[int, ...]) -> Diagnosis:
    allowed = len(_all_cores(machines))
    threads = [_threads_of(machine) for machine in machines]
    wishes = sorted({machine.omp_threads or "not set" for machine in machines})
    most, whole = max(threads), sum(threads)
    text = f"{most} for each rank (OMP_NUM_THREADS {' or '.join(wishes)})"
    # One thread a rank is the least there is; then only fewer ranks help, which the rule on cores
    # says.
    if most > 1 and whole > allowed:
        fitting = max(1, allowed // len(machines))
        return Diagnosis(
            "threads",
            "warning",
            f"{text}: {whole} threads on {allowed} cores",
            f"export OMP_NUM_THREADS={fitting}, and training.threads = {fitting} in the job",
            ranks,
        )
    return Diagnosis("threads", "ok", text, "", ranks)


def _threads_of(machine: Machine) -> int:
    """Return how many threads numerical libraries take: one for each core if nobody tells them."""
    wish = (machine.omp_threads or "").split(",")[0].strip()
    return int(wish) if wish.isdecimal() else len(machine.cores)


def judge_gpus(facts: Sequence[RankFacts]) -> Iterator[Diagnosis]:
    """Tell which GPUs the ranks see; none is no fault, for trainers can use the CPU."""
    for rank in facts:
        gpus, memory = rank.machine.gpus, rank.machine.gpu_memory
        if not gpus:
            yield Diagnosis("gpus", "ok", "no GPU: trainers use the CPU", "", (rank.rank,))
            continue
        names = ", ".join(f"{count} x {name}" for name, count in Counter(gpus).items())
        yield Diagnosis("gpus", "ok", names, "", (rank.rank,))
        # Only the first rank of a host has tried it.
        if memory is not None:
            how = f"not taken by MPI ({memory})" if memory else "taken by MPI within one process"
            text = f"{how}; not needed, messages go through host memory"
            yield Diagnosis("gpu-mpi", "ok", f"GPU memory {text}", "", (rank.rank,))

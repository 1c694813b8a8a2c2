"""What `clicooper doctor` makes of what it finds: is a run in danger, and what helps?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from doctor_cases import FOLDER, HDF5, rank_of

from clicooper_hpc.doctor.cores_gpus import judge_cores, judge_gpus
from clicooper_hpc.doctor.diagnosis import (
    Diagnosis,
    diagnosed_ranks,
    diagnoses_as_text,
    diagnosis_exit_code,
    merge_diagnoses,
)
from clicooper_hpc.doctor.launch import judge_launch, judge_launch_versions
from clicooper_hpc.doctor.rank_exchange import judge_exchanged_clocks, judge_exchanged_messages
from clicooper_hpc.doctor.rank_facts import FACTS
from clicooper_hpc.doctor.run_folder import (
    judge_folder_locks,
    judge_run_folders,
    judge_shared_folder,
)
from clicooper_hpc.transport.launcher import Launcher, read_launcher
from clicooper_hpc.transport.self_test import HopTime

HYDRA = {"PMI_SIZE": "4", "PMI_RANK": "2", "MPI_LOCALNRANKS": "4"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
MPIRUN = Launcher("Open MPI's mpirun", "Open MPI", 4, 0)


@pytest.mark.parametrize(
    ("env", "name", "family", "rank"),
    [
        ({}, "", "", None),
        (HYDRA, "MPICH's mpiexec", "MPICH", 2),
        ({**HYDRA, **STEP}, "MPICH's mpiexec", "MPICH", 2),
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"},
            "Open MPI's mpirun",
            "Open MPI",
            3,
        ),
        ({**STEP, "PMI_SIZE": "4", "PMI_RANK": "1"}, "srun with --mpi=pmi2", "MPICH", 1),
        ({**STEP, "PMIX_RANK": "1"}, "srun with --mpi=pmix", "Open MPI", 1),
        (STEP, "plain srun", "", 1),
        # a batch script is no step
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "", "", None),
    ],
)
def test_who_started_this_process(
    env: dict[str, str], name: str, family: str, rank: int | None
) -> None:
    launcher = read_launcher(env)
    assert (launcher.name, launcher.family, launcher.rank) == (name, family, rank)


def one(findings: Iterable[Diagnosis], check: str) -> Diagnosis:
    """Return the worst finding of a check."""
    order = ("bad", "warning", "ok")
    return min((f for f in findings if f.check == check), key=lambda f: order.index(f.level))


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "ok", "started 4, MPI sees 4"),
        ({"of": 1}, "bad", "the launcher started 4 processes, but MPI (MPICH 5.0.2) sees 1"),
        ({"of": 1, "launcher": MPIRUN}, "bad", "Open MPI's mpirun does not belong to MPICH 5.0.2"),
        (
            {"of": 1, "launcher": Launcher("plain srun", "", 4, 0)},
            "bad",
            "plain srun does not tell MPICH of the other processes",
        ),
        # an MPICH that was built to be started by Open MPI's mpirun
        ({"launcher": MPIRUN}, "ok", "MPI sees 4"),
        ({"of": 1, "launcher": replace(MPIRUN, size=1)}, "warning", "would be alone"),
        ({"of": 1, "launcher": Launcher("", "", None, None)}, "ok", "alone"),
    ],
)
def test_launcher_and_library_belong_together(
    changes: dict[str, Any], level: str, words: str
) -> None:
    found = one(judge_launch([rank_of(**changes)]), "launcher")
    assert found.level == level
    assert words in found.text
    assert bool(found.remedy) == (level != "ok")
    if level == "bad":
        assert "/env/bin/mpiexec" in found.remedy
        assert "--mpi=pmi2" in found.remedy


def test_without_mpi_the_reason_and_the_remedy_are_told() -> None:
    facts = rank_of(
        of=0, library="", mpi_error="no MPI library can be loaded", mpi_remedy="Get one"
    )
    assert list(judge_launch([facts])) == [
        Diagnosis("mpi", "bad", "no MPI library can be loaded", "Get one")
    ]


def test_a_rank_with_another_library_or_version_is_named() -> None:
    facts = [rank_of(0), rank_of(1), rank_of(2, library="MPICH 4.0.2")]
    assert one(judge_launch(facts), "mpi").ranks == (2,)
    facts = [rank_of(0), rank_of(1, packages={"clicooper": "0.1.0", "torch": "2.9.0"})]
    found = one(judge_launch_versions(facts), "packages")
    assert (found.level, found.ranks) == ("bad", (1,))
    assert "torch 2.9.0 instead of 2.13.0" in found.text


def test_another_commit_is_bad_but_an_unknown_one_is_not() -> None:
    assert (
        one(judge_launch_versions([rank_of(0), rank_of(1, commit="b" * 40)]), "packages").level
        == "bad"
    )
    assert one(judge_launch_versions([rank_of(0), rank_of(1, commit="")]), "packages").level == "ok"


@pytest.mark.parametrize(
    ("count", "cores", "omp", "check", "words"),
    [
        (4, range(2), "1", "cores", "4 ranks on 2 of 8 cores: more ranks than cores"),
        (9, range(8), "1", "cores", "9 ranks on 8 cores: more ranks than cores"),
        (4, range(8), "4", "threads", "16 threads on 8 cores"),
        (4, range(8), None, "threads", "32 threads on 8 cores"),
    ],
)
def test_too_many_ranks_or_threads_for_the_cores(
    count: int, cores: range, omp: str | None, check: str, words: str
) -> None:
    facts = [rank_of(rank, of=count, cores=tuple(cores), omp_threads=omp) for rank in range(count)]
    found = one(judge_cores(facts), check)
    assert found.level == "warning"
    assert words in found.text
    assert found.remedy


def test_cores_of_another_host_do_not_count() -> None:
    facts = [rank_of(rank, host=f"n{rank // 2}", cores=(0, 1)) for rank in range(4)]
    assert {finding.level for finding in judge_cores(facts)} == {"ok"}


def test_ranks_bound_to_the_same_core_while_others_are_idle() -> None:
    cores = [(0,), (0,), (1, 2), (3, 4)]
    found = one(judge_cores([rank_of(k, cores=mine) for k, mine in enumerate(cores)]), "cores")
    assert found.level == "warning"
    assert "ranks 0-1 are bound to the same 1" in found.text


def test_threads_that_fit_are_fine() -> None:
    facts = [rank_of(rank, cores=(2 * rank, 2 * rank + 1), omp_threads="2") for rank in range(4)]
    assert {finding.level for finding in judge_cores(facts)} == {"ok"}


def test_a_gpu_that_mpi_cannot_take_is_no_fault() -> None:
    facts = rank_of(gpus=("H100", "H100"), gpu_memory="SIGSEGV")
    texts = [finding.text for finding in judge_gpus([facts])]
    assert texts[0] == "2 x H100"
    assert "SIGSEGV" in texts[1]
    assert diagnosis_exit_code(judge_gpus([facts])) == 0


@pytest.mark.parametrize(
    ("changes", "check", "level"),
    [
        ({}, "folder", "ok"),
        ({}, "rights", "ok"),
        ({"writing": "Read-only file system"}, "folder", "bad"),
        ({"renaming": "Not supported"}, "folder", "bad"),
        ({"syncing": "Input/output error"}, "folder", "bad"),
        ({"syncing_folders": "Invalid argument"}, "folder", "warning"),
        ({"free_bytes": 2**29}, "folder", "warning"),
        ({"keeps_rights": False}, "rights", "bad"),
    ],
)
def test_what_a_folder_must_be_able_to_do(changes: dict[str, Any], check: str, level: str) -> None:
    found = one(judge_run_folders([rank_of(folder=replace(FOLDER, **changes))]), check)
    assert found.level == level
    assert bool(found.remedy) == (level != "ok")


def test_a_network_file_system_is_fine_with_a_word() -> None:
    found = one(judge_run_folders([rank_of(folder=replace(FOLDER, kind="nfs4"))]), "folder")
    assert found.level == "ok"
    assert "over the network" in found.text


@pytest.mark.parametrize(
    ("failure", "variable", "level"),
    [
        ("", None, "ok"),
        ("", "TRUE", "ok"),
        ("ENOSYS", None, "ok"),
        ("ENOSYS", "BEST_EFFORT", "ok"),
        ("ENOSYS", "TRUE", "bad"),
        ("ENOSYS", "FALSE", "ok"),
        ("ENOLCK", None, "warning"),
        ("ENOLCK", "best_effort", "bad"),
        ("ENOLCK", "1", "bad"),
        ("ENOLCK", "FALSE", "ok"),
    ],
)
def test_locks_and_the_variable_that_rules_them(
    failure: str, variable: str | None, level: str
) -> None:
    found = judge_folder_locks(failure, variable)
    assert found.level == level
    assert bool(found.remedy) == (level != "ok")


@pytest.mark.parametrize("changes", [{"missing": ("gzip",)}, {"trial": "errno = 37"}])
def test_an_hdf5_that_cannot_hold_a_run_is_bad(changes: dict[str, Any]) -> None:
    found = one(judge_run_folders([rank_of(hdf5=replace(HDF5, **changes))]), "hdf5")
    assert found.level == "bad"
    assert found.remedy


def test_a_folder_that_some_ranks_do_not_see() -> None:
    (found,) = merge_diagnoses(
        judge_shared_folder("/scratch/runs", ["", "", "No such file", "No such file"]), 4
    )
    assert (found.level, found.ranks) == ("bad", (2, 3))
    text = diagnoses_as_text([found], hosts=["n1", "n1", "n2", "n2"], width=100)
    assert "ranks 2-3 on n2: a file that rank 0 wrote to /scratch/runs is not seen here" in text


def test_only_a_clock_outside_of_question_and_answer_is_apart() -> None:
    (fine,) = judge_exchanged_clocks([100.0, 109.0], asked=100.0, answered=110.0)
    assert fine.level == "ok"
    (late,) = judge_exchanged_clocks([100.0, 97.5, 111.0], asked=100.0, answered=110.5)
    assert (late.level, late.ranks) == ("warning", (1,))
    assert "2.5 s" in late.text


def test_the_slowest_neighbours_are_told() -> None:
    found = judge_exchanged_messages(
        [HopTime(0, 1, 64, 2.0), HopTime(1, 2, 64, 90.0), HopTime(0, 1, 2**20, 5.0)]
    )
    assert found.text.endswith("64 B 90 us (ranks 1-2), 1 MiB 5 us (ranks 0-1)")


def test_facts_travel_as_json() -> None:
    facts = rank_of(3, gpus=("H100",), gpu_memory="SIGSEGV", hdf5_locking="FALSE")
    assert FACTS.validate_json(FACTS.dump_json(facts)) == facts


def test_findings_of_many_ranks_are_told_once_and_fit_the_terminal() -> None:
    findings = [Diagnosis("packages", "ok", "one two " * 30, "", (rank,)) for rank in range(5)]
    odd = Diagnosis("packages", "bad", "torch 1 instead of 2", "Install it", (5,))
    text = diagnoses_as_text(merge_diagnoses([*findings, odd], 6), hosts=["n"] * 6, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("packages") == 2
    assert "ranks 0-4: one two" in text
    assert "-> Install it" in text
    assert text.endswith("6 ranks on 1 host: 1 bad, 0 warnings: a run would fail")
    assert diagnosed_ranks([7, 1, 2, 3]) == "ranks 1-3, 7"

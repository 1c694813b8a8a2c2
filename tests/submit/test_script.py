"""The text of Slurm scripts: golden files, valid shell, no way from a job file into the shell."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from script_cases import CASES, GOLDEN, PLACES, Case, directives, job_with

from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.errors import UsageError
from clicooper_hpc.slurm.request import SubmissionPaths, slurm_request_of
from clicooper_hpc.slurm.script import slurm_script_text

NASTY = """a b"c'd$(touch pwned)`touch pwned`;touch pwned\\"""


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert CASES[name].script() == (GOLDEN / f"{name}.sbatch").read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.sbatch")} == set(CASES)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sbatch")), ids=lambda path: path.stem)
def test_golden_scripts_are_valid_shell(path: Path) -> None:
    answer = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, timeout=20)
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_line_is_commented(case: Case) -> None:
    script = case.script()
    asked = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    assert all("  # " in line for line in asked)
    for block in script.split("\n\n"):
        assert block.startswith("#")


def test_the_script_says_what_it_asks_for() -> None:
    asked = directives(CASES["nodes-with-gpus"].script())
    for option in (
        "--nodes=2",
        "--ntasks=6",
        "--ntasks-per-node=3",
        "--cpus-per-task=8",
        "--mem-per-cpu=4096M",
        "--gpus-per-node=a100:3",
        "--time=720",
        "--signal=B:USR1@120",
        "--requeue",
        "--open-mode=append",
        "--exclusive",
    ):
        assert option in asked


def test_cores_default_to_threads_and_ranks_to_the_cuts() -> None:
    job = job_with({}, training={"threads": 3}, pipeline={"partition": [2, 4]})
    request = slurm_request_of(job)
    assert (request.ranks, request.cpus, request.threads) == (4, 3, 3)


@pytest.mark.parametrize(
    ("ranks", "nodes", "most"), [(4, 1, 4), (4, 2, 2), (5, 2, 3), (4, 4, 1), (5, 4, 2)]
)
def test_ranks_are_spread_over_nodes(ranks: int, nodes: int, most: int) -> None:
    job = job_with({"nodes": nodes}, pipeline={"segments": ranks - 1})
    assert slurm_request_of(job).ranks_per_node == most


@pytest.mark.parametrize(
    ("slurm", "sections", "words"),
    [
        ({}, {"pipeline": {}}, "how many segments"),
        ({"nodes": 5}, {}, "only 4 ranks"),
        ({"cpus_per_task": 1}, {"training": {"threads": 2}}, "training.threads = 2"),
        ({}, {"pipeline": {"segments": 3, "device": "cuda"}}, "no GPUs are asked for"),
    ],
)
def test_what_cannot_work_is_refused(
    slurm: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        slurm_request_of(job_with(slurm, **sections))
    assert caught.value.remedy


def test_gpus_may_be_asked_for_in_the_words_of_the_site() -> None:
    job = job_with({"extra": ["--gres=gpu:3"]}, pipeline={"segments": 3, "device": "cuda"})
    assert "--gres=gpu:3" in directives(slurm_script_text(job, PLACES))


@pytest.mark.parametrize(
    "value",
    ["a\n#SBATCH --uid=0", "a\n", "a b", "a;b", "$(b)", "a#b", "-a", "a'b", 'a"b', "a\\b", "", "é"],
)
@pytest.mark.parametrize(
    "key", ["partition", "account", "qos", "constraint", "gpu_type", "mail", "mpi"]
)
def test_values_of_directives_cannot_leave_their_line(key: str, value: str) -> None:
    with pytest.raises(ValidationError):
        job_with({key: value, "gpus_per_node": 1})


@pytest.mark.parametrize("key", ["setup", "program", "launcher_options", "extra"])
@pytest.mark.parametrize("end", ["\n", "\r", "\0", "\x1b", "\v", "\x85", "\u2028"])
def test_every_entry_of_a_list_is_one_line(key: str, end: str) -> None:
    with pytest.raises(ValidationError, match="one line without control characters"):
        job_with({key: [f"--x{end}touch pwned"]})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--array=0-9", "slurm.seeds"),
        ("-n 8", "pipeline.segments"),
        ("-n8", "pipeline.segments"),
        ("--exclusive --time=1", "slurm.time_min"),
        ("exclusive", "no sbatch option"),
        ("", "no sbatch option"),
        ('--comment="open', "No closing quotation"),
        ("--comment=a#b", "no sbatch option"),
    ],
)
def test_extra_options_do_not_contradict_the_others(option: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        job_with({"extra": [option]})


@pytest.mark.parametrize(
    ("slurm", "words"),
    [
        ({"gpu_type": "a100"}, "needs slurm.gpus_per_node"),
        ({"seeds_at_once": 2}, "needs slurm.seeds"),
        ({"seeds": [1, 1]}, "twice"),
        ({"time_min": 2, "signal_s": 120}, "less than slurm.time_min"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"program": []}, "at least 1"),
    ],
)
def test_keys_that_do_not_fit_together(slurm: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        job_with(slurm)


@pytest.mark.parametrize("path", ["/home/a\nb", "/home/a\x1bb"])
def test_paths_with_control_characters_are_refused(path: str) -> None:
    with pytest.raises(UsageError, match="control characters"):
        SubmissionPaths(job=Path(path), run=Path("/run"), working=Path("/"))


@pytest.mark.parametrize("sign", ["'", '"', "\\"])
def test_run_folders_that_sbatch_could_not_read_are_refused(sign: str) -> None:
    with pytest.raises(UsageError, match="#SBATCH line"):
        SubmissionPaths(job=Path("/job.toml"), run=Path(f"/a{sign}b"), working=Path("/"))


def test_how_it_is_submitted_is_no_part_of_the_job() -> None:
    plain, other = job_with({}), job_with({"partition": "gpu", "seeds": [1, 2], "time_min": 5})
    assert plain.digest() == other.digest()
    assert "gpu" not in other.canonical()
    assert load_canonical_job(other.canonical()).slurm == plain.slurm

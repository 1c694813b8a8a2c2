"""What a Slurm script does when it is run, with stand-ins for the programs it calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from script_cases import directives, job_with

from clicooper_hpc.slurm.request import SubmissionPaths
from clicooper_hpc.slurm.script import slurm_script_text

NASTY = """a b"c'd$(touch pwned)`touch pwned`;touch pwned\\"""


def tool(folder: Path, name: str, *, code: int = 0, inspect: int | None = None) -> None:
    """Put a program on the PATH that notes its name, its words and some variables.

    It ends with ``code``, as `clicooper inspect` with ``inspect``.
    """
    text = f"""#!{sys.executable}
import json, os, sys
names = ("OMP_NUM_THREADS", "SRUN_CPUS_PER_TASK", "FROM_SETUP")
with open(os.environ["NOTES"], "a") as notes:
    variables = {{name: os.environ.get(name) for name in names}}
    print(json.dumps([[{name!r}, *sys.argv[1:]], variables, os.getcwd()]), file=notes)
sys.exit({code if inspect is None else inspect} if "inspect" in sys.argv else {code})
"""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def _make_sleep_short(folder: Path) -> None:
    """Let `sleep 300` be noted and over, and shorten the script's looks at the ranks."""
    folder.mkdir(exist_ok=True)
    (folder / "sleep").write_text(
        '#!/bin/bash\n[ "$1" = 300 ] && echo \'[["sleep", "300"], {}, ""]\' >>"$NOTES"\n'
        "exec /bin/sleep 0.05\n"
    )
    (folder / "sleep").chmod(0o755)


def execute(script: str, folder: Path, **variables: str) -> tuple[int, list[Any], str]:
    """Run ``script`` with the tools in ``folder/bin``; return code, what they noted, errors.

    What it prints goes to ``folder/out``.
    """
    notes = folder / "notes"
    notes.touch()
    _make_sleep_short(folder / "bin")
    answer = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{folder / 'bin'}:{os.defpath}",
            "NOTES": str(notes),
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (folder / "out").write_text(answer.stdout)
    return (
        answer.returncode,
        [json.loads(line) for line in notes.read_text().splitlines()],
        answer.stderr,
    )


def paths_in(folder: Path, run: str = "runs/mine") -> SubmissionPaths:
    return SubmissionPaths(job=folder / "job.toml", run=folder / run, working=folder)


def test_the_script_plans_runs_and_inspects(tmp_path: Path) -> None:
    for name in ("clicooper", "srun"):
        tool(tmp_path / "bin", name)
    job = job_with(
        {"setup": ["export FROM_SETUP='x y'", "true $UNSET"], "cpus_per_task": 4, "mpi": "pmi2"},
        training={"threads": 2},
    )
    code, notes, errors = execute(slurm_script_text(job, paths_in(tmp_path), ["a.b=1"]), tmp_path)
    assert (code, errors) == (0, "")
    plan, run, inspect = (words for words, _, _ in notes)
    job_path, run_path = str(tmp_path / "job.toml"), str(tmp_path / "runs" / "mine")
    assert plan == ["clicooper", "plan", job_path, "--ranks", "4", "--set", "a.b=1"]
    at = run.index("clicooper")
    assert run[at:] == [
        *["clicooper", "run", job_path, "-o", run_path, "--resume"],
        *["--set", "a.b=1"],
    ]
    assert run[0] == "srun"
    assert {"--kill-on-bad-exit=1", "--mpi=pmi2"} <= set(run[1:at])
    assert inspect == ["clicooper", "inspect", run_path]
    for _, variables, folder in notes:
        assert folder == str(tmp_path)
        assert variables == {
            "OMP_NUM_THREADS": "2",
            "SRUN_CPUS_PER_TASK": "4",
            "FROM_SETUP": "x y",
        }
    assert (tmp_path / "runs").is_dir()


def test_words_reach_the_programs_as_they_are(tmp_path: Path) -> None:
    """Nothing of paths, `--set` and words of the job file is taken for shell."""
    name = re.sub("[\"'\\\\]", "", NASTY)
    home = tmp_path / f"{name}'\"\\"
    home.mkdir()
    for program in (NASTY.replace("/", ""), "srun"):
        tool(tmp_path / "bin", program)
    job = job_with({"program": [NASTY, NASTY], "launcher_options": [NASTY]})
    # Quotes are refused in the run folder alone, because of its #SBATCH line.
    paths = SubmissionPaths(job=home / "job.toml", run=tmp_path / name / name, working=home)
    setting = f"model.name={NASTY}\ntouch pwned"
    code, notes, errors = execute(slurm_script_text(job, paths, [setting]), tmp_path)
    assert (code, errors) == (0, "")
    tail = ["--set", setting]
    plan, run, inspect = (words for words, _, _ in notes)
    assert plan == [NASTY, NASTY, "plan", str(paths.job), "--ranks", "4", *tail]
    at = run.index(NASTY)
    begin = [NASTY, NASTY, NASTY, "run", str(paths.job), "-o", str(paths.run), "--resume"]
    assert run[at:] == [*begin, *tail]
    assert inspect == [NASTY, NASTY, "inspect", str(paths.run)]
    assert not list(tmp_path.rglob("pwned"))
    assert all(folder == str(home) for _, _, folder in notes)


def test_an_array_task_takes_its_seed(tmp_path: Path) -> None:
    for name in ("clicooper", "srun"):
        tool(tmp_path / "bin", name)
    script = slurm_script_text(
        job_with({"seeds": [3, 41]}), paths_in(tmp_path), ["training.seed=7"]
    )
    code, notes, errors = execute(script, tmp_path, SLURM_ARRAY_TASK_ID="1")
    assert (code, errors) == (0, "")
    run = notes[1][0]
    assert run[run.index("-o") + 1] == str(tmp_path / "runs" / "mine-seed-41")
    assert run[-4:] == ["--set", "training.seed=7", "--set", "training.seed=41"]


def test_mpirun_gets_the_number_of_ranks_and_its_options(tmp_path: Path) -> None:
    for name in ("clicooper", "mpirun"):
        tool(tmp_path / "bin", name)
    job = job_with({"launcher": "mpirun", "launcher_options": ["--bind-to", "none"]})
    code, notes, _ = execute(slurm_script_text(job, paths_in(tmp_path)), tmp_path)
    assert code == 0
    assert notes[1][0][:6] == ["mpirun", "-n", "4", "--bind-to", "none", "clicooper"]


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_the_script_passes_the_warning_on(tmp_path: Path, launcher: str) -> None:
    """Slurm signals the script, which asks by the file STOP; the ranks make the folder late."""
    tool(tmp_path / "bin", "clicooper", inspect=75)
    tool(tmp_path / "bin", "scontrol", code=1)
    folder = tmp_path / "runs" / "mine"
    program = tmp_path / "bin" / launcher
    program.write_text(
        f"#!/bin/bash\nkill -USR1 $PPID; sleep; sleep; mkdir -p {folder}\n"
        # As a start does with a request from before it, which the script then makes again.
        f"touch {folder}/STOP; rm {folder}/STOP\n"
        f"for i in $(seq 100); do [ -e {folder}/STOP ] && exit 143; sleep 0.1; done; exit 3\n"
    )
    program.chmod(0o755)
    script = slurm_script_text(job_with({"launcher": launcher}), paths_in(tmp_path))
    assert "--signal=B:USR1@120" in directives(script)
    code, notes, _ = execute(script, tmp_path, SLURM_JOB_ID="17")
    assert code == 75
    assert "exit code 143" in (tmp_path / "out").read_text()
    assert ["scontrol", "requeue", "17"] in [words for words, _, _ in notes]
    assert not (folder / "STOP").exists()


def test_a_request_before_the_ranks_are_started_is_kept(tmp_path: Path) -> None:
    tool(tmp_path / "bin", "clicooper", inspect=75)
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    program = tmp_path / "bin" / "srun"
    program.write_text(
        f"#!/bin/bash\nfor i in $(seq 100); do [ -e {folder}/STOP ] && exit 75; sleep 0.1; done\n"
        "exit 3\n"
    )
    program.chmod(0o755)
    job = job_with({"setup": ["kill -USR1 $$"], "requeue": False})
    assert execute(slurm_script_text(job, paths_in(tmp_path)), tmp_path)[0] == 75
    assert "exit code 75" in (tmp_path / "out").read_text()


def test_several_nodes_are_examined_before_the_run(tmp_path: Path) -> None:
    for name in ("clicooper", "srun"):
        tool(tmp_path / "bin", name)
    script = slurm_script_text(job_with({"nodes": 2}), paths_in(tmp_path))
    _, notes, _ = execute(script, tmp_path)
    assert notes[0][0][-4:-1] == ["clicooper", "doctor", "-o"]
    assert notes[0][0][-1] == notes[2][0][-2]  # the folder of the run that follows
    assert notes[1][0][:2] == ["clicooper", "plan"]


#: What launchers made of the codes of ranks that had all saved, or of which one had failed.
CODES = [0, 1, 75, 79, 137, 143]


@pytest.mark.parametrize("code", CODES)
def test_a_run_that_failed_fails_the_job_and_is_not_started_again(
    tmp_path: Path, code: int
) -> None:
    """Whatever the launcher says: it hides the code of one rank behind that of another."""
    tool(tmp_path / "bin", "scontrol")
    tool(tmp_path / "bin", "clicooper", inspect=2)
    tool(tmp_path / "bin", "srun", code=code)
    ended, notes, _ = execute(slurm_script_text(job_with({}), paths_in(tmp_path)), tmp_path)
    assert ended == (1 if code in (0, 75) else code)
    assert "scontrol" not in [words[0] for words, _, _ in notes]


@pytest.mark.parametrize("code", [0, 75, 143])
def test_a_run_that_is_complete_completes_the_job(tmp_path: Path, code: int) -> None:
    """Asked in its last moments, a rank may have been ended after all was written."""
    for name in ("clicooper", "scontrol"):
        tool(tmp_path / "bin", name)
    tool(tmp_path / "bin", "srun", code=code)
    ended, notes, _ = execute(slurm_script_text(job_with({}), paths_in(tmp_path)), tmp_path)
    assert ended == 0
    assert "scontrol" not in [words[0] for words, _, _ in notes]


def test_what_an_earlier_start_said_counts_no_more(tmp_path: Path) -> None:
    """Ranks that end before they take the folder leave in it what it held."""
    tool(tmp_path / "bin", "clicooper")
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    (folder / "SAVED").touch()
    program = tmp_path / "bin" / "srun"
    program.write_text(f"#!/bin/bash\n[ -e {folder}/SAVED ] && touch {tmp_path}/seen; exit 0\n")
    program.chmod(0o755)
    assert execute(slurm_script_text(job_with({}), paths_in(tmp_path)), tmp_path)[0] == 0
    assert not (tmp_path / "seen").exists()


def test_a_task_of_an_array_asks_for_itself_alone(tmp_path: Path) -> None:
    """The job number of one task is that of the whole array: all seeds were started again."""
    tool(tmp_path / "bin", "scontrol")
    tool(tmp_path / "bin", "clicooper", inspect=75)
    tool(tmp_path / "bin", "srun", code=75)
    task = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"}
    script = slurm_script_text(job_with({"seeds": [3, 4]}), paths_in(tmp_path))
    _, notes, _ = execute(script, tmp_path, **task)
    assert ["scontrol", "requeue", "17_1"] in [words for words, _, _ in notes]


@pytest.mark.parametrize(
    ("slurm", "count", "code", "again"),
    [
        *[({}, None, code, True) for code in CODES],
        ({"max_requeues": 3}, "2", 75, True),
        ({"max_requeues": 3}, "3", 75, False),
        ({"requeue": False}, None, 75, False),
    ],
)
def test_a_run_that_all_ranks_saved_is_started_again(
    tmp_path: Path, slurm: Mapping[str, Any], count: str | None, code: int, again: bool
) -> None:
    tool(tmp_path / "bin", "scontrol")
    tool(tmp_path / "bin", "clicooper", inspect=75)
    tool(tmp_path / "bin", "srun", code=code)
    counted = {} if count is None else {"SLURM_RESTART_COUNT": count}
    script = slurm_script_text(job_with(slurm), paths_in(tmp_path))
    ended, notes, _ = execute(script, tmp_path, SLURM_JOB_ID="17", **counted)
    assert ended == 75
    more = [words for words, _, _ in notes if words[0] in ("scontrol", "sleep")]
    assert more == ([["scontrol", "requeue", "17"], ["sleep", "300"]] if again else [])


def test_a_job_that_cannot_work_never_starts_ranks(tmp_path: Path) -> None:
    tool(tmp_path / "bin", "clicooper", code=2)
    tool(tmp_path / "bin", "srun")
    code, notes, _ = execute(slurm_script_text(job_with({}), paths_in(tmp_path)), tmp_path)
    assert (code, len(notes)) == (2, 1)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    script = slurm_script_text(job_with({"program": ["no such program"]}), paths_in(tmp_path))
    code, notes, errors = execute(script, tmp_path)
    assert (code, notes) == (5, [])
    assert "no such program: not found; slurm.setup is to load it" in errors

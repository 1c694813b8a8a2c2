"""Submit a job: write the script beside the run folder and hand it to `sbatch`."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError, UsageError
from clicooper_hpc.printable import printable_json
from clicooper_hpc.slurm.request import SubmissionPaths, submission_paths
from clicooper_hpc.slurm.sbatch_call import read_sbatch_answer, sbatch_environment
from clicooper_hpc.slurm.script import slurm_script_text

__all__ = ["submit_job"]

_SBATCH_TIMEOUT_S = 120


def submit_job(
    path: Path,
    *,
    overrides: Sequence[str],
    output: Path | None,
    dry_run: bool,
    as_json: bool = False,
) -> str:
    """Submit the job file ``path`` and return what to tell the user.

    Parameters
    ----------
    path
        The job file.
    overrides
        ``section.key=value``, as in a run.
    output
        Run folder to make; default: ``runs/`` and the name of the job file, as in a run.
    dry_run
        Return the script; write and submit nothing.
    as_json
        Tell it to a script: ``job_id``, ``cluster``, ``script``, ``runs``, ``notes``; of a dry run
        ``script`` is null and ``script_text`` the text.

    Raises
    ------
    UsageError
        The job file, or what it asks for, is wrong.
    RunFolderError
        The run is there already, or was submitted already.
    EnvironmentUnfitError
        There is no `sbatch`, or it refuses.
    """
    job = load_job(path, overrides)
    # Absolute: the job starts in a folder and on a machine of its own.
    paths = submission_paths(path, output or Path("runs") / path.stem)
    # Made before sbatch is looked for: a mistake in the job is told on any machine.
    script = slurm_script_text(job, paths, overrides)
    _check_syntax(script)
    runs = paths.runs(job.slurm.seeds)
    if dry_run:
        if as_json:
            return _facts(None, None, None, runs, (), script_text=script)
        return script.rstrip("\n")
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise EnvironmentUnfitError(
            "there is no sbatch on the PATH of this machine",
            remedy="Submit from a login node of a Slurm cluster; --dry-run shows the script, and "
            "without Slurm `mpirun -n N clicooper run` does the same.",
        )
    for folder in runs:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise RunFolderError(
                "is there already, and a run is never overwritten",
                where=str(folder),
                remedy="Choose another folder with -o.",
            )
    _write_script(paths, script)
    number, cluster, notes = _call_sbatch(sbatch, paths)
    if as_json:
        return _facts(number, cluster, paths.script, runs, notes)
    return "\n".join(
        [*notes, *_submission_report(paths, number, cluster, runs, array=bool(job.slurm.seeds))]
    )


def _facts(
    number: str | None,
    cluster: str | None,
    script: Path | None,
    runs: Sequence[Path],
    notes: Sequence[str],
    **more: str,
) -> str:
    return printable_json(
        {
            "job_id": number,
            "cluster": cluster,
            "script": None if script is None else str(script),
            "runs": [str(run) for run in runs],
            "notes": list(notes),
            **more,
        }
    )


def _check_syntax(script: str) -> None:
    """Find an open quote of `slurm.setup` now, not after hours in a queue."""
    bash = shutil.which("bash")
    if bash is None:
        return
    answer = subprocess.run(
        [bash, "-n"],
        input=script,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        # Messages in English, which our line quotes, and no BASH_ENV that could print something.
        env={"LC_ALL": "C"},
    )
    # A here-document that is not closed would swallow the run; bash only warns of it.
    if answer.returncode or answer.stderr:
        raise UsageError(
            f"the script would not be valid shell: {answer.stderr}",
            where="slurm.setup",
            remedy="Look for a quote or a block that is not closed.",
        )


def _write_script(paths: SubmissionPaths, script: str) -> None:
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        # "x": whoever submits the same run twice is told, even if both do it at once.
        with paths.script.open("x", encoding="utf-8") as file:
            file.write(script)
    except FileExistsError:
        raise RunFolderError(
            "this run was submitted already",
            where=str(paths.folder),
            remedy="Choose another folder with -o; or, if that job is gone and left no run, remove "
            "this one.",
        ) from None
    except OSError as error:
        raise EnvironmentUnfitError(
            f"the script cannot be written ({error.strerror})",
            where=str(paths.script),
            remedy="Give -o a folder on a file system you may write to and that has space.",
        ) from error


def _call_sbatch(sbatch: str, paths: SubmissionPaths) -> tuple[str, str | None, list[str]]:
    """Return number and cluster of the submitted job, and what `sbatch` says besides."""
    try:
        answer = subprocess.run(
            [sbatch, "--parsable", str(paths.script)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SBATCH_TIMEOUT_S,
            check=False,
            env=sbatch_environment(os.environ),
        )
    except OSError as error:
        _remove_script(paths)
        raise EnvironmentUnfitError(
            f"cannot be started ({error.strerror})", where=sbatch, remedy="Ask your site."
        ) from error
    except subprocess.TimeoutExpired:
        # The script stays: the job may be in the queue.
        raise EnvironmentUnfitError(
            f"sbatch has not answered for {_SBATCH_TIMEOUT_S} s",
            where=str(paths.script),
            remedy="Look with `squeue --me` whether the job is there before you submit it again.",
        ) from None
    if answer.returncode:
        _remove_script(paths)
        raise EnvironmentUnfitError(
            f"sbatch refuses the job: {(answer.stderr or answer.stdout).strip()[:500]}",
            where="[slurm]",
            remedy="`clicooper submit --dry-run` shows what was asked for.",
        )
    found = read_sbatch_answer(answer.stdout)
    if found is None:
        raise EnvironmentUnfitError(
            f"sbatch does not tell a job number, but {answer.stdout[:200]!r}",
            where=str(paths.script),
            remedy="Look with `squeue --me` whether the job is there.",
        )
    return found.number, found.cluster, [*found.greeting, *answer.stderr.splitlines()]


def _remove_script(paths: SubmissionPaths) -> None:
    """Leave nothing of a job that was not submitted, so that the next try finds its place."""
    with contextlib.suppress(OSError):
        paths.script.unlink()
        paths.folder.rmdir()


def _submission_report(
    paths: SubmissionPaths, number: str, cluster: str | None, runs: list[Path], *, array: bool
) -> list[str]:
    where = "" if cluster is None else f" --clusters={cluster}"
    folder = shlex.quote(str(paths.folder))
    log = f"tail -n 3 {folder}/{number}_*.out" if array else f"tail -F {folder}/{number}.out"
    one = shlex.quote(str(runs[0]))
    last = f"{one} --beside {shlex.join(map(str, runs[1:]))}" if len(runs) > 1 else one
    return [
        f"submitted job {number}: {paths.script}",
        f"  queue   squeue{where} --jobs={number}",
        f"  log     {log}",
        f"  cancel  scancel{where} {number}",
        f"  go on   sbatch {shlex.quote(str(paths.script))}",
        f"  after   clicooper inspect {last}",
    ]

"""The text of the Slurm script: a pure function of the job and of where its files lie.

Words of the job file and the command line reach the shell only through `shlex.quote`, and reach
`#SBATCH` lines only after `SlurmSection` or `SubmissionPaths` have held them to harmless
characters. `slurm.setup` alone is shell by intention.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from clicooper_hpc.config.job import Job
from clicooper_hpc.slurm.request import SlurmRequest, SubmissionPaths, slurm_request_of

__all__ = ["slurm_script_text"]

_COMMENT_COLUMN = 40
_NO_REQUEUE = "slurm.requeue = false: go on with sbatch and this script"
_REQUEUE = "after a node failure or preemption, start again: the run goes on"
#: Keys that become an option of the same name.
_NAMED = {
    "partition": "which nodes to choose from",
    "account": "who pays",
    "qos": "quality of service",
    "constraint": "what the nodes must have",
}


def slurm_script_text(job: Job, paths: SubmissionPaths, overrides: Sequence[str] = ()) -> str:
    """Return the script that runs ``job``.

    Parameters
    ----------
    job
        The job, ``overrides`` applied.
    paths
        Where its files lie.
    overrides
        The ``--set`` of the command line, which the run is given again.

    Raises
    ------
    UsageError
        See `slurm_request_of`.
    """
    request = slurm_request_of(job)
    sections = [
        _head(paths),
        [*_directives(job, paths, request)],
        [*_environment(job, paths, request)],
        [*_folders(job, paths)],
        [*_commands(job, paths, request, overrides)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _head(paths: SubmissionPaths) -> list[str]:
    folder, script = shlex.quote(str(paths.folder)), shlex.quote(str(paths.script))
    return [
        "#!/bin/bash",
        f"# Written by `clicooper submit` for the job file {paths.job}",
        "# To submit it by hand, save it under this name (the folder must be there for the log):",
        f"#   mkdir -p {folder} && sbatch {script}",
    ]


def _directives(job: Job, paths: SubmissionPaths, request: SlurmRequest) -> Iterator[str]:
    slurm = job.slurm
    trainers = f"{request.segments} trainer{'s' if request.segments > 1 else ''}"
    name = re.sub("[^A-Za-z0-9_.-]", "_", paths.run.name)
    yield _directive(f"--job-name={name}", "what squeue shows")
    yield _directive(f"--nodes={request.nodes}", "the ranks are spread over them")
    yield _directive(f"--ntasks={request.ranks}", f"1 owner + {trainers}")
    yield _directive(f"--ntasks-per-node={request.ranks_per_node}", "at most; the owner is task 0")
    yield _directive(f"--cpus-per-task={request.cpus}", "cores of each rank")
    if request.cpu_mib is not None:
        yield _directive(
            f"--mem-per-cpu={request.cpu_mib}M",
            f"{slurm.memory_gib_per_task:g} GiB for each rank",
        )
    if slurm.gpus_per_node:
        kind = "" if slurm.gpu_type is None else f"{slurm.gpu_type}:"
        yield _directive(
            f"--gpus-per-node={kind}{slurm.gpus_per_node}",
            "trainers take them in turn, by their number on the node",
        )
    yield _directive(f"--time={slurm.time_min}", "minutes; before they end the run saves")
    # B: the script alone. A signal kills a rank that does not listen yet, and ranks under mpirun
    # are no step of the job and would get none.
    yield _directive(f"--signal=B:USR1@{slurm.signal_s}", "seconds before: this script is told")
    for key, meaning in _NAMED.items():
        if (value := getattr(slurm, key)) is not None:
            yield _directive(f"--{key}={value}", meaning)
    if slurm.seeds:
        limit = "" if slurm.seeds_at_once is None else f"%{slurm.seeds_at_once}"
        yield _directive(f"--array=0-{len(slurm.seeds) - 1}{limit}", "one task for each seed below")
    yield from _log_and_requeue(job, paths)
    if slurm.mail is not None:
        yield _directive("--mail-type=END,FAIL", "when it has ended, well or not")
        yield _directive(f"--mail-user={slurm.mail}", "to this address")
    for option in slurm.extra:
        yield _directive(option, "slurm.extra")


def _log_and_requeue(job: Job, paths: SubmissionPaths) -> Iterator[str]:
    # Slurm reads % in the log's name as a pattern.
    folder = str(paths.folder).replace("%", "%%")
    pattern, meaning = ("%A_%a", "array and task") if job.slurm.seeds else ("%j", "job id")
    path = f"{folder}/{pattern}.out"
    # Without quotes sbatch would end the path at a blank or a #.
    if re.search(r"[\s#]", path):
        path = f'"{path}"'
    yield _directive(f"--output={path}", meaning)
    if job.slurm.requeue:
        yield _directive("--requeue", _REQUEUE)
    else:
        # Said aloud, because the site's default (JobRequeue) may be the other one.
        yield _directive("--no-requeue", _NO_REQUEUE)
    yield _directive("--open-mode=append", "keep what earlier starts wrote")


def _directive(option: str, comment: str) -> str:
    return f"{f'#SBATCH {option}':<{_COMMENT_COLUMN}}  # {comment}"


def _environment(job: Job, paths: SubmissionPaths, request: SlurmRequest) -> Iterator[str]:
    slurm = job.slurm
    yield "# The first command that fails ends the job, with its exit code."
    # Not yet -u: module and conda scripts of sites use unset variables.
    yield "set -eo pipefail"
    yield "# Slurm asks this script to stop, which asks the run as soon as there is one."
    yield "ASKED=; trap 'ASKED=yes' USR1"
    yield "# Relative paths below, also those in --set, start where the job was submitted."
    yield f"cd -- {shlex.quote(str(paths.working))}"
    if slurm.setup:
        yield "# The site's lines (slurm.setup), as they stand in the job file."
        yield from slurm.setup
    yield "# A misspelt variable is an error (not above: site scripts often use unset ones)."
    yield "set -u"
    yield "# Compute threads of each rank (training.threads): ranks that share cores lose by more."
    yield f"export OMP_NUM_THREADS={request.threads}"
    if slurm.launcher == "srun":
        yield "# srun does not take over --cpus-per-task by itself (Slurm 22.05 and newer)."
        yield f"export SRUN_CPUS_PER_TASK={request.cpus}"
    yield "# Print the Python stack if a rank crashes in compiled code."
    yield "export PYTHONFAULTHANDLER=1"
    yield "# Say so if the program is not there; 5 is the exit code for an unfit environment."
    first = shlex.quote(slurm.program[0])
    advice = shlex.quote(f"{slurm.program[0]}: not found; slurm.setup is to load it")
    yield f"command -v {first} >/dev/null || {{ echo {advice} >&2; exit 5; }}"


def _folders(job: Job, paths: SubmissionPaths) -> Iterator[str]:
    seeds, run = job.slurm.seeds, shlex.quote(str(paths.run))
    yield "# The job file is read when the job starts, not when it was submitted."
    yield f"JOB={shlex.quote(str(paths.job))}"
    if seeds:
        yield "# One run for each seed; each releases the samples anew, with noise of its own."
        yield f"SEEDS=({' '.join(map(str, seeds))})"
        yield 'SEED="${SEEDS[$SLURM_ARRAY_TASK_ID]}"'
    yield "# The run folder, on a file system that all nodes see. A run is never overwritten."
    yield f'RUN={run}"-seed-$SEED"' if seeds else f"RUN={run}"
    yield 'mkdir -p "$(dirname "$RUN")"'


def _commands(
    job: Job, paths: SubmissionPaths, request: SlurmRequest, overrides: Sequence[str]
) -> Iterator[str]:
    program = shlex.join(job.slurm.program)
    settings = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    if job.slurm.seeds:
        settings += ' --set training.seed="$SEED"'
    # On one node the folder is shared and links are memory: nothing to find out.
    if request.nodes > 1:
        yield "# Which MPI, do all ranks see each other and the folder, how fast are the links."
        yield from _launch(job, request, f'{program} doctor -o "$RUN"')
        yield ""
    yield "# Refuse early, on one core, if the job cannot work."
    yield f'{program} plan "$JOB" --ranks {request.ranks}{settings}'
    yield ""
    if job.slurm.requeue and job.slurm.launcher == "srun":
        yield "# A step number no earlier start has had: MPICH waits for ever on the shared memory"
        yield "# that killed ranks left under the same number of the same job."
        count = "${SLURM_RESTART_COUNT:-0}"
        yield f"for ((i = 0; i < {count}; i++)); do srun -n1 -N1 true || true; done"
        yield ""
    yield "# --resume: begin the run, or go on where an earlier start of this script has left it."
    yield from _launch_comment(job)
    yield "# SAVED is what an earlier start said of itself; this one may not come to say anything."
    yield 'rm -f "$RUN/SAVED"'
    yield from _launch(job, request, f'{program} run "$JOB" -o "$RUN" --resume{settings} &')
    yield "# Again and again: a start makes the folder late, and removes a request from before it."
    yield 'RANKS=$!; while kill -0 "$RANKS" 2>/dev/null; do'
    yield '    if [ -n "$ASKED" ]; then touch "$RUN/STOP" 2>/dev/null || true; fi'
    yield "    sleep 1 || true"
    yield "done"
    yield 'CODE=0; wait "$RANKS" || CODE=$?'
    yield 'rm -f "$RUN/STOP"'
    yield 'echo "the launcher ended with exit code $CODE"'
    yield ""
    yield from _after(job, program)


def _after(job: Job, program: str) -> Iterator[str]:
    """Let the run folder say what became of the run: complete, to be started again, or failed."""
    yield "# How the run ended its folder says: a launcher mixes the exit codes of the ranks, and"
    yield "# may end some itself. 0: complete. 75: every rank has saved after the same step."
    yield f'STATE=0; {program} inspect "$RUN" || STATE=$?'
    yield 'if [ "$STATE" -eq 0 ]; then exit 0; fi'
    yield 'if [ "$STATE" -eq 75 ]; then'
    if job.slurm.requeue:
        yield "    # Slurm starts this script again, and the run goes on."
        room = f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.slurm.max_requeues} ]'
        # The number of an array's job may be that of the array, which would start all tasks again.
        task = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if job.slurm.seeds else "$SLURM_JOB_ID"
        yield f'    if {room} && scontrol requeue "{task}"; then'
        yield "        sleep 300                       # until Slurm has taken this start away"
        yield "    fi"
    yield "    exit 75"
    yield "fi"
    yield "# It has failed, and so has the job, whichever ranks may have said 0 or 75."
    yield 'if [[ "$CODE" =~ ^(0|75)$ ]]; then CODE=1; fi'
    yield 'exit "$CODE"'


def _launch_comment(job: Job) -> Iterator[str]:
    if job.slurm.launcher == "mpirun":
        yield "# mpirun takes nodes and cores from Slurm; if one rank dies, it ends the others."
        return
    yield "# --kill-on-bad-exit: if one rank dies, end the others now, not at the time limit."
    yield "# --distribution=block: ranks in order, so neighbours of the pipeline share nodes."
    if job.slurm.mpi is None:
        yield "# No slurm.mpi is given: the site's default starts MPI (`srun --mpi=list`)."


def _launch(job: Job, request: SlurmRequest, command: str) -> Iterator[str]:
    slurm = job.slurm
    if slurm.launcher == "mpirun":
        words = ["mpirun", "-n", str(request.ranks)]
    else:
        words = ["srun", "--kill-on-bad-exit=1", "--label", "--unbuffered", "--distribution=block"]
        words += [] if slurm.mpi is None else [f"--mpi={slurm.mpi}"]
    yield f"{shlex.join([*words, *slurm.launcher_options])} \\"
    yield f"    {command}"

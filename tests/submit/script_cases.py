"""Jobs whose scripts are kept as golden files.

After a wanted change of the scripts, ``python tests/submit/script_cases.py`` writes the files anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clicooper_hpc.config.job import Job
from clicooper_hpc.slurm.request import SubmissionPaths
from clicooper_hpc.slurm.script import slurm_script_text

GOLDEN = Path(__file__).parent / "golden"
PLACES = SubmissionPaths(
    job=Path("/home/ada/project/flowers.toml"),
    run=Path("/home/ada/project/runs/flowers"),
    working=Path("/home/ada/project"),
)


def job_with(slurm: Mapping[str, Any], **sections: Mapping[str, Any]) -> Job:
    table = {"data": {"path": "digits"}, "pipeline": {"segments": 3}, "slurm": slurm}
    return Job.model_validate(table | sections)


def directives(script: str) -> list[str]:
    """Return the options sbatch reads: up to the first line that is a command."""
    found = []
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            found.append(line.removeprefix("#SBATCH ").split("  #")[0].strip())
    return found


@dataclass(frozen=True)
class Case:
    job: Job
    paths: SubmissionPaths = PLACES
    overrides: list[str] = field(default_factory=list)

    def script(self) -> str:
        return slurm_script_text(self.job, self.paths, self.overrides)


CASES = {
    "one-node": Case(
        job_with({"setup": ["source /home/ada/venv/bin/activate"], "mpi": "pmi2"}),
        overrides=["training.epochs=3"],
    ),
    "nodes-with-gpus": Case(
        job_with(
            {
                "partition": "gpu,gpu-long",
                "account": "flowers2026",
                "qos": "normal",
                "constraint": "a100&ib",
                "time_min": 720,
                "nodes": 2,
                "cpus_per_task": 8,
                "gpus_per_node": 3,
                "gpu_type": "a100",
                "memory_gib_per_task": 32.0,
                "mail": "ada@example.org",
                "setup": ["module purge", "module load openmpi/5.0 python/3.12"],
                "mpi": "pmix",
                "extra": ["--exclusive"],
            },
            pipeline={"segments": 5, "device": "cuda"},
            training={"threads": 4},
        )
    ),
    "array-over-seeds": Case(
        job_with(
            {
                "seeds": [0, 1, 2, 41],
                "seeds_at_once": 2,
                "requeue": False,
                "setup": ['eval "$(conda shell.bash hook)"', "conda activate clicooper"],
                "launcher": "mpirun",
                "launcher_options": ["--bind-to", "none"],
            }
        )
    ),
    "apptainer": Case(
        job_with(
            {
                "gpus_per_node": 3,
                "setup": ["module load apptainer"],
                "program": [
                    "apptainer",
                    "exec",
                    "--nv",
                    "--bind",
                    "/scratch/ada",
                    "/home/ada/my images/clicooper.sif",
                    "clicooper",
                ],
                "mpi": "pmix",
            }
        ),
        SubmissionPaths(
            job=Path("/home/ada/project/Ada's job.toml"),
            run=Path("/scratch/ada/50 % of #1"),
            working=Path("/home/ada/project"),
        ),
    ),
}


if __name__ == "__main__":
    for name, case in CASES.items():
        (GOLDEN / f"{name}.sbatch").write_text(case.script(), encoding="utf-8")

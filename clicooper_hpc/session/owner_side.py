"""What only rank 0 does around its role: preparation, index, progress and results.

Trainers never import this module: it brings the owner's libraries with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.card import card_of, entries_of
from clicooper_hpc.owner.preparation import prepare
from clicooper_hpc.pipeline.agenda import Delivery, TrainStep, ValidationStep
from clicooper_hpc.pipeline.contract import Contract
from clicooper_hpc.pipeline.course import Course
from clicooper_hpc.runstore.buffer import TableWriter
from clicooper_hpc.runstore.folder import RunFolder
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    Result,
    RunHeader,
    create_index,
    finish_index,
)
from clicooper_hpc.runstore.private import PrivateFolder
from clicooper_hpc.runstore.tables import Table
from clicooper_hpc.session.environment import git_commit, versions
from clicooper_hpc.session.owner_role import make_owner
from clicooper_hpc.session.progress import Progress
from clicooper_hpc.session.scene import Scene

__all__ = ["OwnerSide"]

_log = logging.getLogger(__name__)


class OwnerSide:
    """The owner's data, secrets and files in one run."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self._preparation = prepare(job, PrivateFolder(folder.private))

    @property
    def contract(self) -> Contract:
        """What all trainers are told."""
        return self._preparation.contract

    def authorised_sub_labels(self) -> bytes:
        """Return the sub-labels of all training samples, once the ledger has agreed."""
        self._preparation.desk.authorise_labels()
        return self._preparation.sub_labels.tobytes()

    def create_index(
        self, scene: Scene, run_id: str, tables: Mapping[int, Sequence[Table]]
    ) -> None:
        """Write ``run.h5`` as far as it is known before the first step."""
        card = card_of(scene.job, self._preparation)
        single = scene.job.output.layout == "single"
        create_index(
            scene.folder.index,
            _header(scene, run_id),
            tables=tables,
            rows=_row_counts(scene.course) if single else None,
            pipeline=PipelineText(
                cuts=(0, *scene.layout.cuts),
                schedule=_schedule_text(scene),
                layer_names=tuple(type(layer).__name__ for layer in scene.model),
            ),
            privacy=PrivacyText(entries_of(card), card.text()),
        )

    def train(self, scene: Scene, writer: TableWriter, *, quiet: bool) -> None:
        """Play the owner's role to its end."""
        spec = self._preparation.spec
        note = "NO PRIVACY"
        if spec is not None:
            note = f"epsilon {spec.guarantee.epsilon:g} per {spec.guarantee.unit_label}"
        total = scene.course.agenda.total_steps
        with Progress(total, scene.job.training.epochs, note, quiet=quiet) as progress:
            owner = make_owner(scene, self._preparation, writer=writer, news=progress)
            owner.run()
        self._clean, self._released = owner.clean, owner.released

    def write_results(self, scene: Scene, wall_s: float, *, quiet: bool) -> None:
        """Write what the run ended with; the mark of a complete run is the last thing written."""
        clean, released = self._clean, self._released
        card = card_of(scene.job, self._preparation, clean=clean, released=released)
        results = {
            "clean_accuracy": Result(
                clean.accuracy, "1", "Delivered model on clean held-out samples"
            ),
            "clean_loss": Result(clean.loss, "nat", "Cross-entropy on clean held-out samples"),
            "clean_samples": Result(clean.samples, "1", "Clean held-out samples"),
            "wall_s": Result(wall_s, "s", "Wall time of the run, from the agreed job on"),
        }
        if released.samples:
            results["released_accuracy"] = Result(
                released.accuracy, "1", "Delivered model on released validation samples"
            )
            results["released_samples"] = Result(
                released.samples, "1", "Released validation samples"
            )
        finish_index(
            scene.folder.index,
            results=results,
            privacy=PrivacyText(entries_of(card), card.text()),
        )
        self._preparation.data.close()
        if not quiet:
            path = scene.folder.path
            _log.info("delivered model, clean held-out samples: %.2f %%", 100 * clean.accuracy)
            _log.info("run folder: %s (clicooper inspect %s)", path, path)


def _header(scene: Scene, run_id: str) -> RunHeader:
    return RunHeader(
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        creator_version=__version__,
        git_commit=git_commit(),
        layout=scene.job.output.layout,
        resolved_job=scene.job.canonical(),
        job_digest=scene.job.digest().hex,
        mpi_library=scene.world.library,
        versions=versions(),
        hosts=scene.world.processors,
    )


def _schedule_text(scene: Scene) -> str:
    course = scene.course
    lanes = [course.lane(segment, course.micro_batches) for segment in range(scene.course.segments)]
    return "\n".join(
        f"{rank}: {' '.join(map(str, lane))}" for rank, lane in enumerate(lanes, start=1)
    )


def _row_counts(course: Course) -> dict[str, int]:
    """Rows each table will have, for files that are laid out in advance."""
    counts = {"steps": 0, "training": 0, "evaluation": 0, "releases": 0}
    for event in course.agenda.events():
        if isinstance(event, TrainStep):
            counts["steps"] += 1
            counts["training"] += 1
            counts["releases"] += event.from_owner
        elif isinstance(event, ValidationStep):
            counts["releases"] += event.from_owner
        elif isinstance(event, Delivery):
            counts["evaluation"] += 1
    return counts

"""What only rank 0 does around its role: preparation, index, progress and results.

Trainers never import this module: it brings the owner's libraries with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from torch import nn

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.card import card_of, entries_of
from clicooper_hpc.owner.preparation import prepare
from clicooper_hpc.pipeline.agenda import Delivery, TrainStep, ValidationStep
from clicooper_hpc.pipeline.contract import Contract
from clicooper_hpc.pipeline.course import Course
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.privacy.card import PrivacyCard
from clicooper_hpc.privacy.keys import SECURE
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
from clicooper_hpc.session.assembly import check_course, course_of
from clicooper_hpc.session.environment import git_commit, versions
from clicooper_hpc.session.owner_role import make_owner
from clicooper_hpc.session.progress import Progress
from clicooper_hpc.session.scene import Scene
from clicooper_hpc.transport.world import World

__all__ = ["OwnerSide"]

_log = logging.getLogger(__name__)


class OwnerSide:
    """The owner's data, secrets and files in one run."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self._job = job
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
        self,
        world: World,
        folder: RunFolder,
        network: tuple[nn.Sequential, Layout],
        run_id: str,
        tables: Mapping[int, Sequence[Table]],
    ) -> None:
        """Look for mistakes a last time, then write ``run.h5`` as far as it is known."""
        model, layout = network
        course = course_of(
            self._job, self.contract, self._preparation.sub_labels, len(layout.segments)
        )
        check_course(self._job, course, layout, self.contract)
        card = card_of(self._job, self._preparation)
        single = self._job.output.layout == "single"
        create_index(
            folder.index,
            _header(world, self._job, run_id),
            tables=tables,
            rows=_row_counts(course) if single else None,
            pipeline=PipelineText(
                cuts=(0, *layout.cuts),
                schedule=_schedule_text(course),
                layer_names=tuple(type(layer).__name__ for layer in model),
            ),
            privacy=PrivacyText(entries_of(card), card.text()),
        )

    def announce(self) -> None:
        """Say what is promised before anything leaves."""
        for line in card_of(self._job, self._preparation).lines():
            _log.info("%s", line)

    def train(self, scene: Scene, writer: TableWriter, *, quiet: bool) -> None:
        """Play the owner's role to its end."""
        note = _note(card_of(self._job, self._preparation))
        total = scene.course.total_steps
        with Progress(total, self._job.training.epochs, note, quiet=quiet) as progress:
            owner = make_owner(scene, self._preparation, writer=writer, news=progress)
            owner.run()
        self._clean, self._released = owner.clean, owner.released

    def write_results(self, folder: RunFolder, wall_s: float) -> None:
        """Write what the run ended with; the mark of a complete run is the last thing written."""
        clean, released = self._clean, self._released
        card = card_of(self._job, self._preparation, clean=clean, released=released)
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
                released.accuracy,
                "1",
                "Released validation samples, by the logits the last trainer sent",
            )
            results["released_samples"] = Result(
                released.samples, "1", "Released validation samples"
            )
        finish_index(
            folder.index,
            results=results,
            privacy=PrivacyText(entries_of(card), card.text()),
        )
        self._preparation.data.close()
        _log.info("delivered model, clean held-out samples: %.2f %%", 100 * clean.accuracy)
        _log.info("run folder: %s (clicooper inspect %s)", folder.path, folder.path)


def _note(card: PrivacyCard) -> str:
    """Return the run's epsilon in a few words, with the unit that counts in the end."""
    if card.spec is None:
        return "NO PRIVACY"
    guarantee = card.spec.guarantee
    text = f"epsilon {card.sample_total()[0]:.4g} per sample"
    if guarantee.unit != "sample":
        text = f"epsilon {guarantee.epsilon:g} per {guarantee.unit_label}, {text}"
    return text if card.rng_mode == SECURE else f"{text}, {card.rng_mode}"


def _header(world: World, job: Job, run_id: str) -> RunHeader:
    return RunHeader(
        run_id=run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        creator_version=__version__,
        git_commit=git_commit(),
        layout=job.output.layout,
        resolved_job=job.canonical(),
        job_digest=job.digest().hex,
        mpi_library=world.library,
        versions=versions(),
        hosts=world.processors,
    )


def _schedule_text(course: Course) -> str:
    lanes = [course.lane(segment, course.micro_batches) for segment in range(course.segments)]
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

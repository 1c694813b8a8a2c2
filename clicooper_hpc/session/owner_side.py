"""What only rank 0 does around its role: preparation, index, progress and results.

Trainers never import this module: it brings the owner's libraries with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from torch import nn

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.card import card_of, entries_of
from clicooper_hpc.owner.composed import CleanScores, Score
from clicooper_hpc.owner.preparation import prepare
from clicooper_hpc.owner.role import Conclusion
from clicooper_hpc.pipeline.agenda import Delivery, TrainStep, ValidationStep
from clicooper_hpc.pipeline.contract import Contract
from clicooper_hpc.pipeline.course import Course
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.privacy.card import PrivacyCard
from clicooper_hpc.privacy.keys import SECURE
from clicooper_hpc.provenance.chain import LedgerOrder
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
from clicooper_hpc.runstore.seal import IndexContent
from clicooper_hpc.runstore.tables import OWNER_TABLES, TRAINER_TABLES, Table
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
        self._header = _header(world, self._job, run_id)
        self._pipeline = PipelineText(
            cuts=(0, *layout.cuts),
            schedule=_schedule_text(course),
            layer_names=tuple(type(layer).__name__ for layer in model),
        )
        single = self._job.output.layout == "single"
        create_index(
            folder.index,
            self._header,
            tables=tables,
            rows=_row_counts(course) if single else None,
            pipeline=self._pipeline,
            privacy=PrivacyText(entries_of(card), card.text()),
        )

    def announce(self) -> None:
        """Say what is promised before anything leaves."""
        for line in card_of(self._job, self._preparation).lines():
            _log.info("%s", line)

    def train(self, scene: Scene, writer: TableWriter, *, quiet: bool, started: float) -> None:
        """Play the owner's role to its end; ``started`` is the run's start, monotonic."""
        card = card_of(self._job, self._preparation)
        note = _note(card)
        total = scene.course.total_steps
        with Progress(total, self._job.training.epochs, note, quiet=quiet) as progress:
            make_owner(
                scene,
                self._preparation,
                writer=writer,
                news=progress,
                card=card.text(),
                created=self._header.created,
                conclude=lambda clean, released: self._conclude(
                    clean, released, time.monotonic() - started
                ),
            ).run()

    def _conclude(self, clean: CleanScores, released: Score, wall_s: float) -> Conclusion:
        """Fix what the index will say at the end, so that it can be signed while ranks live."""
        promised = card_of(self._job, self._preparation)
        card = card_of(self._job, self._preparation, clean=clean.model, released=released)
        self._card = PrivacyText(entries_of(card), card.text())
        self._results = _results(clean, released, wall_s)
        content = IndexContent(
            attrs=self._header.attributes(),
            hosts=self._header.hosts,
            cuts=self._pipeline.cuts,
            schedule=self._pipeline.schedule,
            layer_names=self._pipeline.layer_names,
            privacy=self._card.card,
            promised=promised.text(),
            card=self._card.text,
            results={name: result.value for name, result in self._results.items()},
            scales=[
                range(len(self._header.hosts)),
                range(len(self._pipeline.layer_names)),
                range(1, len(self._pipeline.cuts) + 1),
            ],
        )
        figures = {name: float(result.value) for name, result in self._results.items()}
        return Conclusion(figures, content.seal())

    def write_results(self, folder: RunFolder) -> None:
        """Write what the run ended with; the mark of a complete run is the last thing written."""
        finish_index(folder.index, results=self._results, privacy=self._card)
        self._preparation.data.close()
        accuracy = float(self._results["clean_accuracy"].value)
        _log.info("delivered model, clean held-out samples: %.2f %%", 100 * accuracy)
        if "front_accuracy" in self._results:
            front, network = (
                100 * float(self._results[name].value)
                for name in ("front_accuracy", "network_accuracy")
            )
            _log.info(
                "of its parts: the front's class scores alone, without trainers, %.2f %%; the "
                "trainers' network alone %.2f %%",
                front,
                network,
            )
        _log.info("run folder: %s (clicooper inspect %s)", folder.path, folder.path)


def _results(clean: CleanScores, released: Score, wall_s: float) -> dict[str, Result]:
    model = clean.model
    results = {
        "clean_accuracy": Result(model.accuracy, "1", "Delivered model on clean held-out samples"),
        "clean_loss": Result(model.loss, "nat", "Cross-entropy on clean held-out samples"),
        "clean_samples": Result(model.samples, "1", "Clean held-out samples"),
        "wall_s": Result(wall_s, "s", "Wall time of the run, from the agreed job on"),
    }
    if clean.front is not None and clean.network is not None:
        results["front_accuracy"] = Result(
            clean.front.accuracy, "1", "Class scores of the front alone, without trainers"
        )
        results["network_accuracy"] = Result(
            clean.network.accuracy, "1", "Trainers' network alone, without the front's scores"
        )
    if released.samples:
        results["released_accuracy"] = Result(
            released.accuracy,
            "1",
            "Released validation samples, by the logits the last trainer sent",
        )
        results["released_samples"] = Result(released.samples, "1", "Released validation samples")
    return results


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
    """Rows each table will have at most, for files that are laid out in advance."""
    counts = dict.fromkeys((table.name for table in (*OWNER_TABLES, *TRAINER_TABLES)), 0)
    for event in course.agenda.events():
        if isinstance(event, TrainStep):
            counts["steps"] += 1
            counts["training"] += 1
            counts["releases"] += event.from_owner
            # A micro-batch may enter and leave in both directions, and so may a gradient norm.
            counts["messages"] += 4 * (course.micro_batches + 1)
        elif isinstance(event, ValidationStep):
            counts["releases"] += event.from_owner
        elif isinstance(event, Delivery):
            counts["evaluation"] += 1
    stages = len(course.agenda.bounds) - 1
    if stages:
        order = LedgerOrder(course.segments, stages)
        counts["ledger"] = order.size
        counts["proving"] = stages
        counts["checkpoints"] = counts["heads"] = len(order.checkpoint_sizes())
    return counts

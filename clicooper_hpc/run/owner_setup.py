"""What only rank 0 does around its role: preparation, index, progress and results.

Trainers never import this module: it brings the owner's libraries with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from torch import nn

from clicooper_hpc import __version__
from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import EnvironmentUnfitError, EvidenceError, UsageError
from clicooper_hpc.owner.ending import Ending, keep_ending
from clicooper_hpc.owner.evaluation import CleanScores, Score
from clicooper_hpc.owner.loop import Conclusion, EarlierRun
from clicooper_hpc.owner.run_card import flatten_run_card, make_run_card
from clicooper_hpc.owner.setup import set_up_release
from clicooper_hpc.pipeline.layout import Layout
from clicooper_hpc.privacy.master_key import SECURE
from clicooper_hpc.privacy.privacy_card import PrivacyCard
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.ledger_order import LedgerOrder
from clicooper_hpc.provenance.statements import RunStatement, parse_statement
from clicooper_hpc.run.build import check_course, course_of
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.environment import git_commit, versions
from clicooper_hpc.run.owner import make_owner
from clicooper_hpc.run.progress import Progress
from clicooper_hpc.run.restart_search import Resumption
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.runstore.checkpoints import drop_newer_checkpoints
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    RunHeader,
    RunResult,
    create_index,
    finish_index,
    index_header_of,
    note_index_restart,
)
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import JOB_FOLDER, RunFolder
from clicooper_hpc.runstore.signed_digests import IndexContent
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES, Table
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.training.agenda import Delivery, TrainStep, ValidationStep
from clicooper_hpc.training.checkpoint import Stopped
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.run_plan import Course
from clicooper_hpc.transport.world import World

__all__ = ["OwnerSetup"]

_log = logging.getLogger(__name__)


class OwnerSetup:
    """The owner's data, secrets and files in one run."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self._job = job
        self._private = PrivateFolder(folder.private)
        if JOB_FOLDER not in self._private:
            # Where the job's key files and modules are found again; not for everybody to know.
            self._private.write_secret(JOB_FOLDER, job.folder.encode())
        self._preparation = set_up_release(job, self._private)

    @property
    def contract(self) -> Contract:
        """What all trainers are told."""
        return self._preparation.contract

    def authorised_sub_labels(self) -> bytes:
        """Return the sub-labels of all training samples, once the ledger has agreed."""
        return self._preparation.gate.release_sub_labels().tobytes()

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
        card = make_run_card(self._job, self._preparation)
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
            privacy=PrivacyText(flatten_run_card(card), card.text()),
        )

    def fit_to(self, run: Run) -> None:
        """Compare with what an earlier life of the run promised.

        Raises
        ------
        EnvironmentUnfitError
            This machine computes other bits for the same row.
        UsageError
            Front, data or settings are others now.
        """
        if self._private.read_secret("front.probe").decode() != self._preparation.front.probe.hex:
            raise EnvironmentUnfitError(
                "this machine computes other bits for the same row than the one the run began on",
                where="front",
                remedy="Resume on a machine of the same kind, with the same libraries. Elsewhere "
                "the rows would be a second release.",
            )
        promised = str(run.privacy.get("promised", ""))
        mine = make_run_card(self._job, self._preparation).text()
        if mine != promised:
            pairs = zip_longest(promised.splitlines(), mine.splitlines(), fillvalue="")
            then, now = next((a, b) for a, b in pairs if a != b)
            raise UsageError(
                f"the privacy card said {then.strip()!r}, and would say {now.strip()!r} now",
                where=str(run.folder.path),
                remedy="Bring back the data and files the run began with.",
            )

    def go_on(self, run: Run, found: Resumption, signers: Signers | None) -> None:
        """Take over what stands in the index, and count the restart.

        Raises
        ------
        UsageError
            A rank's key is not the one it began with.
        EnvironmentUnfitError
            The index cannot be written.
        """
        if signers is not None and found.entries:
            _check_keys(found.entries[0], signers)
        # What is signed already says how often the run was started again.
        more = 0 if found.is_closed else 1
        self._pipeline = PipelineText(
            cuts=tuple(int(cut) for cut in run.pipeline["cuts"]),
            schedule=str(run.pipeline["schedule"]),
            layer_names=tuple(run.pipeline["layer_names"]),
        )
        self._header = index_header_of(run.attrs, run.hosts, more_restarts=more)
        # Rows are about to be cut there: nothing newer can be gone on with any more.
        drop_newer_checkpoints(run.folder.path, found.step)
        if more:
            note_index_restart(run.folder.index, self._header.restarts)

    def announce(self) -> None:
        """Say what is promised before anything leaves."""
        for line in make_run_card(self._job, self._preparation).lines():
            _log.info("%s", line)

    def train(
        self,
        scene: RunContext,
        writer: TableWriter,
        *,
        quiet: bool,
        started: float,
        found: Resumption | None = None,
    ) -> Stopped | None:
        """Play the owner's role, see `Owner.run`; ``started`` is the run's start, monotonic."""
        card = make_run_card(self._job, self._preparation)
        note = _note(card)
        total = scene.course.total_steps
        earlier = None
        if found is not None:
            earlier = EarlierRun(found.step, found.memory, found.entries, found.noted, found.proved)
        done = 0 if found is None else found.step
        with Progress(total, self._job.training.epochs, note, quiet=quiet, done=done) as progress:
            return make_owner(
                scene,
                self._preparation,
                writer=writer,
                news=progress,
                card=card.text(),
                created=self._header.created,
                conclude=lambda clean, released, roots: self._conclude(
                    Ending(clean, released, time.monotonic() - started, tuple(roots))
                ),
            ).run(earlier)

    def _conclude(self, ending: Ending) -> Conclusion:
        """Fix what the index will say at the end, so that it can be signed while ranks live.

        Once for the same delivered segments: a later life signs the same figures.
        """
        ending = keep_ending(self._private, ending)
        clean, released, wall_s = ending.clean, ending.released, ending.wall_s
        promised = make_run_card(self._job, self._preparation)
        card = make_run_card(self._job, self._preparation, clean=clean.model, released=released)
        self._card = PrivacyText(flatten_run_card(card), card.text())
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
        return Conclusion(figures, content.digest())

    def close(self) -> None:
        """Let go of the data."""
        self._preparation.data.close()

    def write_results(self, folder: RunFolder) -> None:
        """Write what the run ended with; the mark of a complete run is the last thing written."""
        finish_index(folder.index, results=self._results, privacy=self._card)
        self.close()
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


def _check_keys(entry: bytes, signers: Signers) -> None:
    """Compare the keys of all ranks with those of the run statement."""
    where = "run statement of the earlier life"
    run = parse_statement(parse_envelope(entry, where=where).payload, where=where)
    if not isinstance(run, RunStatement):
        raise EvidenceError("is another statement", where=where)
    for rank, (key, wanted) in enumerate(
        zip(signers.keys, (run.owner, *run.trainers), strict=True)
    ):
        if key.raw.hex() != wanted:
            raise UsageError(
                f"rank {rank} has the public key {key.raw.hex()}, the run began with {wanted}",
                where=f"private/rank-{rank:03d}",
                remedy="Bring back the key files the run began with.",
            )


def _results(clean: CleanScores, released: Score, wall_s: float) -> dict[str, RunResult]:
    model = clean.model
    results = {
        "clean_accuracy": RunResult(
            model.accuracy, "1", "Delivered model on clean held-out samples"
        ),
        "clean_loss": RunResult(model.loss, "nat", "Cross-entropy on clean held-out samples"),
        "clean_samples": RunResult(model.samples, "1", "Clean held-out samples"),
        "wall_s": RunResult(wall_s, "s", "Wall time of the run, from the agreed job on"),
    }
    if clean.front is not None and clean.network is not None:
        results["front_accuracy"] = RunResult(
            clean.front.accuracy, "1", "Class scores of the front alone, without trainers"
        )
        results["network_accuracy"] = RunResult(
            clean.network.accuracy, "1", "Trainers' network alone, without the front's scores"
        )
    if released.samples:
        results["released_accuracy"] = RunResult(
            released.accuracy,
            "1",
            "Released validation samples, by the logits the last trainer sent",
        )
        results["released_samples"] = RunResult(
            released.samples, "1", "Released validation samples"
        )
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

"""The index ``run.h5`` in one start of a run: made or continued, then finished with results."""

from __future__ import annotations

from collections.abc import Callable

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.final_scores import FinalScores, keep_class_figures, keep_final_scores
from clicooper_hpc.owner.loop import Conclusion
from clicooper_hpc.owner.release_setup import ReleaseSetup
from clicooper_hpc.owner.run_card import flatten_run_card, make_run_card
from clicooper_hpc.run.build import build_run_plan, check_run_plan
from clicooper_hpc.run.index_text import index_header, index_pipeline, index_row_counts
from clicooper_hpc.run.network import RunNetwork
from clicooper_hpc.run.result_log import index_results, log_results
from clicooper_hpc.runstore.checkpoints import drop_newer_checkpoints
from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.index import (
    PipelineText,
    PrivacyText,
    create_index,
    index_header_of,
    note_index_restart,
)
from clicooper_hpc.runstore.index_end import complete_index, finish_index
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.runstore.signed_digests import IndexContent
from clicooper_hpc.runstore.tables.schema import OWNER_TABLES, TRAINER_TABLES
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.transport.world import World

__all__ = ["RunIndex"]


class RunIndex:
    """The owner's index of one run; nothing is written before one of the first two methods."""

    def __init__(self, job: Job, folder: RunFolder, preparation: ReleaseSetup) -> None:
        self._job = job
        self._folder = folder
        self._preparation = preparation

    @property
    def index_created(self) -> str:
        """When the run began (ISO 8601, UTC), at its first start."""
        return self._header.created

    def create_index(self, world: World, network: RunNetwork, run_id: str) -> None:
        """Look for mistakes a last time, then write ``run.h5`` as far as it is known.

        Raises
        ------
        UsageError, EnvironmentUnfitError
            See `check_run_plan`; nothing has been sent of any sample.
        """
        contract, layout = self._preparation.contract, network.layout
        segments = len(layout.segments)
        plan = build_run_plan(self._job, contract, self._preparation.sub_labels, segments)
        check_run_plan(self._job, plan, layout, contract)
        # Without scores: what is promised is fixed before the first release.
        card = make_run_card(self._job, self._preparation)
        self._header = index_header(world, self._job, run_id)
        self._pipeline = index_pipeline(plan, layout, network.model)
        single = self._job.output.layout == "single"
        create_index(
            self._folder.index,
            self._header,
            tables={0: OWNER_TABLES, **dict.fromkeys(range(1, world.size), TRAINER_TABLES)},
            # Nothing of a single file's structure may change while all ranks write it.
            rows=index_row_counts(plan) if single else None,
            pipeline=self._pipeline,
            privacy=PrivacyText(flatten_run_card(card), card.text()),
        )

    def continue_index(self, run: Run, point: RestartPoint) -> None:
        """Take over what stands in the index of ``run``, and count the restart.

        Raises
        ------
        EnvironmentUnfitError
            The index cannot be written.
        """
        # What is signed already says how often the run was started again.
        more = 0 if point.is_closed else 1
        self._pipeline = PipelineText(
            cuts=tuple(int(cut) for cut in run.pipeline["cuts"]),
            schedule=str(run.pipeline["schedule"]),
            layer_names=tuple(run.pipeline["layer_names"]),
        )
        self._header = index_header_of(run.attrs, run.hosts, more_restarts=more)
        # Rows are about to be cut there, and nothing newer is of any use without its rows.
        drop_newer_checkpoints(run.folder.path, point.step)
        if more:
            note_index_restart(run.folder.index, self._header.restarts)

    def conclude_index(
        self, private: PrivateFolder, final: FinalScores, confusion: ConfusionMatrix
    ) -> Conclusion:
        """Fix what the index will say at the end, so that it can be signed while all ranks run.

        Once for the same delivered segments: a restart signs the same figures, not a second wall
        time. ``confusion``, of the same segments, is kept in ``private``.
        """
        final = keep_final_scores(private, final)
        # Before the end: a complete run has it.
        names = self._preparation.data.class_names
        keep_class_figures(private, names, confusion, run_id=self._header.run_id)
        self._confusion = confusion
        # Both cards are sealed, so that the measured one cannot replace what was promised.
        promised = make_run_card(self._job, self._preparation)
        card = make_run_card(
            self._job, self._preparation, clean=final.clean.model, released=final.released
        )
        self._card = PrivacyText(flatten_run_card(card), card.text())
        self._results = index_results(final)
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

    def finish_index(self, verify: Callable[[], None] | None) -> None:
        """Write what the run ended with; the mark of a complete run is the last thing written.

        ``verify`` raises unless the run, all of it but that mark, is one that can be verified; None
        of a run without proofs.
        """
        finish_index(self._folder.index, results=self._results, privacy=self._card)
        if verify is not None:
            # Nobody shall be told of a complete run that `verify` then refuses.
            verify()
        complete_index(self._folder.index)
        log_results(self._job, self._results, self._confusion, self._card.card)

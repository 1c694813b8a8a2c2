"""The owner's side of a start: preparation, privacy promise, index and role.

Trainers never import this module: it brings the owner's libraries with it.
"""

from __future__ import annotations

import logging
import time
from itertools import zip_longest

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.owner.final_scores import FinalScores
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.run.context import RunContext
from clicooper_hpc.run.finished_run import verify_finished_run
from clicooper_hpc.run.owner_promise import announce_owner_promise, progress_note
from clicooper_hpc.run.owner_role import OwnerDocuments, assemble_owner_role
from clicooper_hpc.run.progress import Progress
from clicooper_hpc.run.run_index import RunIndex
from clicooper_hpc.run.signers import Signers
from clicooper_hpc.run.vouching import note_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.run_folder import JOB_FOLDER, RunFolder
from clicooper_hpc.training.checkpoint_writer import Stopped
from clicooper_hpc.training.contract import Contract
from clicooper_hpc.training.restart_point import RestartPoint

__all__ = ["OwnerSetup"]

_log = logging.getLogger(__name__)


class OwnerSetup:
    """The owner's data, secrets and index in one start; ``index`` is the run's ``run.h5``.

    ``run_id``: of the run that is started again; None for a new one.

    Raises
    ------
    DataError, UsageError, BudgetExceededError
        See `clicooper_hpc.owner.release_setup.set_up_release`; nothing has been sent.
    """

    def __init__(self, job: Job, folder: RunFolder, run_id: str | None) -> None:
        self._job = job
        self._folder = folder
        self._private = PrivateFolder(folder.private)
        if JOB_FOLDER not in self._private:
            # Where the job's key files and modules are found again; not for everybody to know.
            self._private.write_secret(JOB_FOLDER, job.folder.encode())
            # What vouches for the job text of run.h5 at a restart or an audit.
            note_job(self._private, job.digest().hex)
        # Everything that can fail on the owner's side fails here, before anything was sent.
        self._preparation = set_up_release(job, self._private, run_id=run_id)
        self._preparation.keep_input_facts(self._private)
        self.index = RunIndex(job, folder, self._preparation)

    @property
    def contract(self) -> Contract:
        """What all trainers are sent."""
        return self._preparation.contract

    def authorised_sub_labels(self) -> bytes:
        """Return the sub-labels of all training samples, once the privacy ledger has agreed."""
        return self._preparation.gate.release_sub_labels().tobytes()

    def reserve_cost(self, run_id: str) -> None:
        """Reserve the cost of the run in the privacy account of the job, if it names one.

        Raises
        ------
        BudgetExceededError
            All runs together would cost a sample more than the limit; nothing has left.
        """
        for line in self._preparation.cost.reserve(run_id, str(self._folder.path)):
            _log.info("%s", line)

    def check_owner_promise(self, run: Run) -> None:
        """Compare with what ``run`` promised when it began.

        Raises
        ------
        EnvironmentUnfitError
            This machine computes other bits for the same row.
        UsageError
            Front, data or settings are others now.
        EvidenceError
            The folder that the front was made from holds another run now.
        """
        # The same noise on another clean row is a second release: the difference of both is the
        # difference of the clean rows.
        if self._private.read_secret("front.probe").decode() != self._preparation.front.probe.hex:
            raise EnvironmentUnfitError(
                "this machine computes other bits for the same row than the one the run began on",
                where="front",
                remedy="Resume on a machine of the same kind, with the same libraries. Elsewhere "
                "the rows would be a second release.",
            )
        self._preparation.check_front_source(self._job)
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

    def announce_owner_promise(self) -> None:
        """Log what is promised, before anything leaves."""
        announce_owner_promise(self._job, self._preparation)

    def train_owner(
        self, context: RunContext, point: RestartPoint, *, quiet: bool, started: float
    ) -> Stopped | None:
        """Play the owner's role, see `Owner.run_owner`; ``started``: the start, monotonic."""
        card = make_run_card(self._job, self._preparation)
        progress = Progress(
            context.plan.total_steps,
            self._job.training.epochs,
            progress_note(card),
            quiet=quiet,
            done=point.step,
        )
        with progress:
            owner = assemble_owner_role(
                context,
                self._preparation,
                documents=OwnerDocuments(card.text(), self.index.index_created),
                on_step=progress,
                conclude=lambda clean, released, roots: self.index.conclude_index(
                    self._private,
                    FinalScores(clean.scores, released, time.monotonic() - started, tuple(roots)),
                    clean.confusion,
                ),
            )
            return owner.run_owner(point)

    def close_owner_data(self) -> None:
        """Close the data set."""
        self._preparation.close_data()

    def write_owner_results(self, signers: Signers | None) -> None:
        """Finish the index of a run that has come to its end, and log its results.

        Raises
        ------
        EvidenceError
            The run has proofs that do not hold; it is not marked complete.
        """
        self.index.finish_index(
            None if signers is None else lambda: verify_finished_run(self._folder, signers.keys)
        )
        self.close_owner_data()
        _log.info("run folder: %s (clicooper inspect %s)", self._folder.path, self._folder.path)

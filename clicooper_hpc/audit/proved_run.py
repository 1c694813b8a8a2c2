"""A run whose signed proofs hold, and what it kept that they vouch for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from torch import Tensor

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.stage_claim import claimed_messages, claimed_state
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    Predicate,
    StageProof,
    Ticket,
)
from clicooper_hpc.runstore.checkpoints import stage_checkpoint_path
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.regular_files import read_regular_file
from clicooper_hpc.runstore.tables.schema import MESSAGES
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import run_checks_on
from clicooper_hpc.verification.run_evidence import collect_run_evidence

__all__ = ["ProvedRun"]

_P = TypeVar("_P", bound=Predicate)
#: Checks an audit stands on; that the run came to its end is not needed to judge one stage.
_NEEDED: Final = frozenset({*range(1, 13), 17}) - {5}


class ProvedRun:
    """A run and its verified ledger.

    Parameters
    ----------
    run
        Complete or not.
    owner_key
        The key its owner must have signed with; None: whoever did.

    Raises
    ------
    EvidenceError
        The proofs do not hold: there is nothing to compare a replay with.
    """

    def __init__(self, run: Run, *, owner_key: PublicIdentity | None = None) -> None:
        self.view = _verified_view(run, owner_key)
        self._run = run

    def stage_proofs(self, stage: int) -> list[StageProof]:
        """Return the proofs of ``stage``, segment by segment."""
        return [
            self._statement(StageProof, EntryId("stage", stage, one)) for one in self._segments()
        ]

    def enrolment(self, segment: int) -> Enrolment:
        """Return how the trainer of ``segment`` enrolled: its machine, its mark keys' root."""
        return self._statement(Enrolment, EntryId("enrolment", 0, segment))

    def ordered_samples(self, stage: int) -> tuple[str, int]:
        """Return what the owner ordered for ``stage``: digest (hex) and number of samples.

        The digest is over the samples and sub-labels of every step.
        """
        # Every trainer's ticket of a stage names the same order; the first is as good as any.
        ticket = self._statement(Ticket, EntryId("ticket", stage, 1))
        return ticket.data_order, ticket.samples

    def release_root(self, stage: int) -> str:
        """Return the root (hex) over the owner's messages of ``stage``, as both ends signed it."""
        # Boundary 0: between the owner and trainer 1.
        return self._statement(Handoff, EntryId("handoff", stage, 0)).forward.root

    def start_states(self, stage: int, initial: Sequence[bytes]) -> list[dict[str, Tensor]]:
        """Return the proved state of each segment before ``stage``.

        ``initial`` are the states before stage 0, as safetensors.
        """
        return [
            claimed_state(
                # No checkpoint is written before the first stage: job and seeds give that state.
                initial[proof.segment - 1]
                if stage == 0
                else self._checkpoint(stage - 1, proof.segment),
                weights=proof.weights_in,
                training=proof.optimizer_in,
                where=f"state of segment {proof.segment} before stage {stage}",
            )
            for proof in self.stage_proofs(stage)
        ]

    def end_states(self, stage: int) -> list[dict[str, Tensor]]:
        """Return the proved state of each segment after ``stage``."""
        return [
            claimed_state(
                self._checkpoint(stage, proof.segment),
                weights=proof.weights_out,
                training=proof.optimizer_out,
                where=f"state of segment {proof.segment} after stage {stage}",
            )
            for proof in self.stage_proofs(stage)
        ]

    def stage_messages(self, stage: int) -> dict[Stream, tuple[bytes, ...]]:
        """Return the digests of all messages of ``stage``, as its hand-offs vouch for them."""
        handoffs = [
            self._statement(Handoff, EntryId("handoff", stage, segment - 1))
            for segment in self._segments()
        ]
        tables: dict[int, Mapping[str, Any]] = {
            rank: rows
            for rank in self._segments()
            for table, rows in self._run.stored_rows(rank).items()
            if table.name == MESSAGES.name
        }
        return claimed_messages(tables, handoffs, stage)

    def _segments(self) -> range:
        return range(1, self.view.run.segments + 1)

    def _checkpoint(self, stage: int, segment: int) -> bytes:
        path = stage_checkpoint_path(self._run.folder.path, stage, segment)
        try:
            return read_regular_file(path, within=self._run.folder.path)
        except OSError as error:
            raise RunFolderError(
                f"the checkpoint cannot be read ({error.strerror})",
                where=str(path),
                remedy="Only runs with provenance.keep_checkpoints = true can be audited.",
            ) from error

    def _statement(self, kind: type[_P], place: EntryId) -> _P:
        entry = self.view.find_entry(place)
        # An incomplete run may end before this place of the ledger.
        if entry is None or not isinstance(entry.statement, kind):
            raise EvidenceError(f"the ledger has no {place}", where="ledger")
        return entry.statement


def _verified_view(run: Run, owner_key: PublicIdentity | None) -> LedgerView:
    view = LedgerView(collect_run_evidence(run, owner_key=owner_key))
    for result in run_checks_on(view):
        if result.number in _NEEDED and result.passed is False:
            raise EvidenceError(
                f"check {result.number} ({result.title}) failed: {result.detail}",
                where="ledger",
                remedy="See `clicooper verify`: what is not proved cannot be audited.",
            )
    return view

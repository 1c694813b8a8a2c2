"""A run whose signed proofs hold, and what it kept that they vouch for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from torch import Tensor

from clicooper_hpc.audit.stage_claim import claimed_state
from clicooper_hpc.audit.verdict import StageFault
from clicooper_hpc.errors import ClicooperError, EvidenceError, RunFolderError
from clicooper_hpc.provenance.envelope import require_envelope_signatures
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.statements import (
    Enrolment,
    Handoff,
    Predicate,
    StageProof,
    Ticket,
    statement_environment_digest,
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
#: Checks an audit stands on: what the owner signed, and the order of all entries, under its tree.
_NEEDED: Final = frozenset({1, 2, 3, 4, 7, 17})
#: Checks of what trainers signed. One of them must not be able to fail an audit of the others.
_NOTED: Final = frozenset({6, 8, 9, 10, 11, 12})


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
        #: Checks that failed and that an audit does not stand on: whose statements, and what.
        self.notes: list[StageFault] = []
        self.view = self._verified_view(run, owner_key)
        self._run = run

    def stage_proofs(self, stage: int) -> list[StageProof]:
        """Return the proofs of ``stage``, segment by segment, each signed by its trainer."""
        return [
            self._signed(StageProof, EntryId("stage", stage, one), one) for one in self._segments()
        ]

    def stage_handoffs(self, stage: int) -> list[Handoff]:
        """Return the hand-offs of ``stage``, boundary by boundary, each signed by both its ends."""
        return [
            self._signed(Handoff, EntryId("handoff", stage, one - 1), one - 1, one)
            for one in self._segments()
        ]

    def has_moved(self, proof: StageProof) -> bool:
        """Whether a stage ran in another environment than its trainer enrolled with."""
        enrolled = statement_environment_digest(self.enrolment(proof.segment).environment)
        return proof.environment != enrolled.hex

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

    def state_before(self, proof: StageProof) -> dict[str, Tensor]:
        """Return the state of a segment before a stage that is not the first, from its file.

        Raises
        ------
        RunFolderError
            The file is missing.
        EvidenceError
            It is not the state that was signed.
        """
        return claimed_state(
            self._checkpoint(proof.stage - 1, proof.segment),
            weights=proof.weights_in,
            training=proof.optimizer_in,
            where=str(stage_checkpoint_path(self._path, proof.stage - 1, proof.segment)),
        )

    def state_after(self, proof: StageProof) -> dict[str, Tensor]:
        """Return the state of a segment after a stage, from its file; raises `state_before`'s."""
        return claimed_state(
            self._checkpoint(proof.stage, proof.segment),
            weights=proof.weights_out,
            training=proof.optimizer_out,
            where=str(stage_checkpoint_path(self._path, proof.stage, proof.segment)),
        )

    def message_tables(self) -> dict[int, Mapping[str, Any]]:
        """Return table ``messages`` of every trainer whose file can be read, as columns."""
        found: dict[int, Mapping[str, Any]] = {}
        for rank in self._segments():
            try:
                tables = self._run.stored_rows(rank)
            # Its neighbours' tables say the same; what is missing is noted by whoever compares.
            except ClicooperError:
                continue
            for table, rows in tables.items():
                if table.name == MESSAGES.name:
                    found[rank] = rows
        return found

    def has_signed_rows(self, proof: StageProof) -> bool:
        """Whether the rows of its trainer's tables are those this proof was signed with."""
        return self.view.evidence.tables.get((proof.segment, proof.stage)) == proof.tables

    @property
    def _path(self) -> Path:
        return self._run.folder.path

    def _segments(self) -> range:
        return range(1, self.view.run.segments + 1)

    def _checkpoint(self, stage: int, segment: int) -> bytes:
        path = stage_checkpoint_path(self._path, stage, segment)
        try:
            return read_regular_file(path, within=self._run.folder.path)
        except OSError as error:
            raise RunFolderError(
                f"the checkpoint cannot be read ({error.strerror})", where=str(path)
            ) from error

    def _signed(self, kind: type[_P], place: EntryId, *signers: int) -> _P:
        """Return a statement that all of ``signers`` (ranks) have signed, and they alone."""
        statement = self._statement(kind, place)
        entry = self.view.require_entry(place)
        keys = [self.view.key(rank) for rank in signers]
        require_envelope_signatures(entry.envelope, keys, where=str(place))
        return statement

    def _statement(self, kind: type[_P], place: EntryId) -> _P:
        entry = self.view.find_entry(place)
        # An incomplete run may end before this place of the ledger.
        if entry is None or not isinstance(entry.statement, kind):
            raise EvidenceError(f"the ledger has no {place}", where="ledger")
        return entry.statement

    def _verified_view(self, run: Run, owner_key: PublicIdentity | None) -> LedgerView:
        view = LedgerView(collect_run_evidence(run, owner_key=owner_key))
        for result in run_checks_on(view):
            if result.passed is not False:
                continue
            words = f"check {result.number} ({result.title}) failed: {result.detail}"
            if result.number in _NEEDED:
                raise EvidenceError(
                    words,
                    where="ledger",
                    remedy="See `clicooper verify`: what is not proved cannot be audited.",
                )
            if result.number in _NOTED:
                self.notes += [StageFault(rank, words) for rank in result.segments or (None,)]
        return view

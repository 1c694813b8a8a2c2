"""`StageAuditor`: trains a stage of a run again, from verified proofs and the owner's files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from clicooper_hpc.audit.proved_run import ProvedRun
from clicooper_hpc.audit.repeatable_run import RepeatableRun
from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.audit.replayed_mark import MarkRules, ReplayedMark, replayed_mark
from clicooper_hpc.audit.stage_claim import (
    StageClaim,
    claimed_messages,
    is_claimed_state,
    unlike_tables,
)
from clicooper_hpc.audit.tolerance import StageWay, tolerance_verdict
from clicooper_hpc.audit.verdict import StageFault, StageOutcome, StageVerdict, exact_verdict
from clicooper_hpc.errors import ClicooperError, RunFolderError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.statements import Handoff, StageProof
from clicooper_hpc.run.vouching import noted_owner_key
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.training.replay_conditions import differing_conditions, replay_conditions
from clicooper_hpc.training.segment_state import export_segment_state

__all__ = ["StageAuditor"]


@dataclass(slots=True)
class _Starts:
    """States before a stage, and what was found of the files and statements they come from."""

    states: Sequence[Mapping[str, Tensor]] = ()
    excuses: dict[int, str] = field(default_factory=dict)
    notes: tuple[StageFault, ...] = ()

    def add_note(self, segment: int | None, words: str) -> None:
        self.notes = (*self.notes, StageFault(segment, words))


class StageAuditor:
    """A run, ready to be trained again stage by stage.

    Parameters
    ----------
    run
        Complete or not; its owner's private folder must be there, for the released rows.
    owner_key
        The owner's key, where the user insists on one; else the one in the private folder.

    Raises
    ------
    EvidenceError
        The proofs do not hold: there is nothing to compare a replay with. Or nobody vouches for
        the job text: see `clicooper_hpc.run.vouching`.
    RunFolderError
        The owner's secrets are missing.
    """

    def __init__(self, run: Run, *, owner_key: PublicIdentity | None = None) -> None:
        self._proved = ProvedRun(run, owner_key=owner_key or noted_owner_key(run))
        self.view = self._proved.view
        self.stages = self.view.run.stages
        self._repeatable = RepeatableRun(run, self._proved, owner_key=owner_key)
        self.job = self._repeatable.job
        self._initial = [export_segment_state(runtime) for runtime in self._repeatable.runtimes()]
        provenance = self.job.provenance
        self._marks = MarkRules(
            provenance.marks != "off", provenance.mark_distortion, provenance.mark_every_steps
        )
        self._tables = self._proved.message_tables()
        #: Steps trained so far, all segments at once.
        self.trained_steps = 0

    @property
    def private(self) -> Path:
        """The owner's private folder."""
        return self._repeatable.private

    @property
    def notes(self) -> Sequence[StageFault]:
        """Checks of the ledger that failed by statements of trainers, whatever the training."""
        return self._proved.notes

    def other_conditions(self) -> dict[int, str]:
        """Return the segments whose trainers stated other conditions than there are here, and what.

        It is their word: what they compute may be equal to the bit all the same.
        """
        here = replay_conditions(self._repeatable.device)
        found = {
            segment: "; ".join(differing_conditions(self._enrolled(segment), here))
            for segment in range(1, self.view.run.segments + 1)
        }
        return {segment: words for segment, words in found.items() if words}

    def audit_stage(
        self,
        stage: int,
        *,
        tolerance: float | None,
        ignores_conditions: bool,
        on_step: Callable[[], None] = lambda: None,
    ) -> StageVerdict:
        """Train ``stage`` again and compare it with what its trainers signed.

        Parameters
        ----------
        tolerance
            None: to the bit.
        ignores_conditions
            To the bit, whatever the trainers stated of their processors and libraries.
        on_step
            Called after each step that was trained again.

        Raises
        ------
        EvidenceError
            A proof or hand-off of the stage is not signed by its ranks, or the owner's samples and
            released rows are not those of the run.
        RunFolderError
            The owner's private folder lacks something.
        """
        proofs, handoffs = self._proved.stage_proofs(stage), self._proved.stage_handoffs(stage)
        self._repeatable.check_owner_files(stage)
        starts = self._start_states(proofs)
        try:
            replay, marks = self._replay(proofs, starts.states, on_step)
        except ClicooperError as error:
            # A state somebody signed may be one no training goes on from.
            every = tuple(range(1, len(proofs) + 1))
            detail = f"the stage cannot be trained again from the states signed: {error.line()}"
            return StageVerdict(
                StageOutcome.OPEN, detail, unjudged=every, notes=starts.notes, segments=len(proofs)
            )
        states = [
            self._claimed_end(proof, state)
            for proof, state in zip(proofs, replay.states, strict=True)
        ]
        digests = claimed_messages(self._tables, handoffs, stage, replay.trace)
        claim = StageClaim(states, digests)
        notes = [*starts.notes, *self._false_statements(proofs, handoffs, states, marks)]
        excuses = self._excuses(proofs, marks, ignores_conditions) | starts.excuses
        if tolerance is None:
            return exact_verdict(replay, claim, excuses, notes)
        ways = [
            StageWay(start, proof.steps, mark.carrier_masks())
            for start, proof, mark in zip(starts.states, proofs, marks, strict=True)
        ]
        return tolerance_verdict(
            replay, claim, ways, tolerance, excuses=starts.excuses, notes=notes
        )

    def _start_states(self, proofs: Sequence[StageProof]) -> _Starts:
        """Return the state of every segment before a stage, as its trainer signed it.

        Where the file with it is missing or another, training the stage before once more gives the
        state, if that stage was trained as the job says.
        """
        stage = proofs[0].stage
        found: list[Mapping[str, Tensor] | None] = []
        starts = _Starts()
        for proof, initial in zip(proofs, self._initial, strict=True):
            if stage == 0:
                # Job and seeds give this state, whatever a trainer says it began with.
                found.append(initial)
                if not is_claimed_state(
                    initial, weights=proof.weights_in, training=proof.optimizer_in
                ):
                    words = "its proof begins with another state than the job's seed gives"
                    starts.add_note(proof.segment, words)
                continue
            try:
                found.append(self._proved.state_before(proof))
            # Not kept, or lost: no fault of anybody's, and it can be made again.
            except RunFolderError:
                found.append(None)
            except ClicooperError as error:
                found.append(None)
                starts.add_note(None, error.line())
        if None in found:
            # No other file is asked for: whoever spoilt one may have spoilt all.
            before = self._proved.stage_proofs(stage - 1)
            again, _ = self._replay(before, self._start_states(before).states, lambda: None)
            for index, proof in enumerate(proofs):
                if found[index] is not None:
                    continue
                found[index] = again.states[index]
                if not is_claimed_state(
                    again.states[index], weights=proof.weights_in, training=proof.optimizer_in
                ):
                    starts.excuses[proof.segment] = (
                        "the state it signed before this stage is in no file, and training stage "
                        f"{stage - 1} again gives another"
                    )
        starts.states = [state for state in found if state is not None]
        return starts

    def _replay(
        self,
        proofs: Sequence[StageProof],
        starts: Sequence[Mapping[str, Tensor]],
        on_step: Callable[[], None],
    ) -> tuple[StageReplay, list[ReplayedMark]]:
        # Fresh ones for each stage: nothing of an optimizer or a generator may outlive a replay.
        runtimes = self._repeatable.runtimes()
        marks = [
            replayed_mark(
                runtime,
                proof,
                self._proved.enrolment(proof.segment),
                self.view,
                private=self.private,
                rules=self._marks,
            )
            for runtime, proof in zip(runtimes, proofs, strict=True)
        ]
        steps = self._repeatable.stage_steps(proofs[0].stage)
        self.trained_steps += len(steps)
        run = self._repeatable
        replay = replay_stage(runtimes, starts, run.plan, steps, run.released_rows, on_step)
        return replay, marks

    def _claimed_end(
        self, proof: StageProof, replayed: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor] | None:
        """Return the state a trainer signed after a stage; None if it is nowhere."""
        roots = {"weights": proof.weights_out, "training": proof.optimizer_out}
        # What was signed is equal to the replay, whatever the file says.
        if is_claimed_state(replayed, **roots):
            return replayed
        try:
            return self._proved.state_after(proof)
        except ClicooperError:
            return None

    def _excuses(
        self, proofs: Sequence[StageProof], marks: Sequence[ReplayedMark], ignores_conditions: bool
    ) -> dict[int, str]:
        """Return what trainers stated under which their bits may not be repeated here."""
        found: dict[int, str] = {}
        other = {} if ignores_conditions else self.other_conditions()
        for proof, mark in zip(proofs, marks, strict=True):
            reasons = [mark.excuse] if mark.excuse else []
            if proof.segment in other:
                reasons.append(f"its trainer stated {other[proof.segment]}")
            if not ignores_conditions and self._proved.has_moved(proof):
                reasons.append("its trainer stated another environment than it enrolled with")
            if reasons:
                found[proof.segment] = "; ".join(reasons)
        return found

    def _false_statements(
        self,
        proofs: Sequence[StageProof],
        handoffs: Sequence[Handoff],
        states: Sequence[Mapping[str, Tensor] | None],
        marks: Sequence[ReplayedMark],
    ) -> list[StageFault]:
        """Return what was stated of a stage that is not so, besides the training itself."""
        notes = []
        stage = proofs[0].stage
        for rank, words in unlike_tables(self._tables, handoffs, stage).items():
            signed = rank in self._tables and self._proved.has_signed_rows(proofs[rank - 1])
            if signed:
                notes.append(StageFault(rank, f"its table of messages, which it signed, {words}"))
            else:
                notes.append(
                    StageFault(None, f"table messages of rank {rank}, changed or lost, {words}")
                )
        for proof, state, mark in zip(proofs, states, marks, strict=True):
            notes += [StageFault(proof.segment, words) for words in mark.false]
            if state is not None and (odd := mark.false_reading(proof.mark, dict(state))):
                notes.append(StageFault(proof.segment, odd))
        return notes

    def _enrolled(self, segment: int) -> Mapping[str, str]:
        return self._proved.enrolment(segment).environment

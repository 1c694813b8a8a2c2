"""`StageVerdict`: what an audit says of a stage, and the comparison to the bit.

EXACT  Every message and every number of every state equals the replay's, byte for byte.
TOL    The states are as close as the tolerance asks; said where the bits cannot be equal (another
       processor or library). Weaker: it excludes work left out, not a careful small change.
FAIL   Neither. Compared to the bit, the verdict names who departed first, and in which message.
OPEN   Nobody is convicted, but some segment could not be judged: the verdict names whose statement
       stands in the way. Never passes for EXACT or TOL.

**Who is at fault.** The states before the stage and the digests of all messages are signed. A
segment is a deterministic function of its state and of what it receives. If what it sent departs
from the replay at a point up to which everything it had received agrees, then it did not compute
what it should have: its neighbours and the owner cannot bring that about. If all it sent agrees and
its final state does not, that is its own doing too. A segment that received something wrong before
it sent something wrong is not judged: what it did with a wrong message is not known here. So
nobody is accused of what another one did, and of all that departed the first is always named.

**What a trainer states excuses nobody else.** A segment that departs, and whose trainer stated
something under which its bits could not be repeated here (another processor, a mark key it does not
have, a state that is not there), is withheld: not convicted, but not passed either. All others are
judged as if it had said nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from clicooper_hpc.audit.message_trace import MessageTrace, SentMessage, Stream
from clicooper_hpc.audit.replay import StageReplay
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.errors import EvidenceError

__all__ = ["StageFault", "StageOutcome", "StageVerdict", "exact_verdict"]

_NOBODY: Mapping[int, str] = {}


class StageOutcome(StrEnum):
    """Class of a verdict; never print one for another."""

    EXACT = "EXACT"
    TOL = "TOL"
    FAIL = "FAIL"
    OPEN = "OPEN"

    @property
    def passed(self) -> bool:
        """Whether the stage was shown to be trained as claimed."""
        return self in (StageOutcome.EXACT, StageOutcome.TOL)


@dataclass(frozen=True, slots=True)
class StageFault:
    """Something that is not as it should be, and the rank it came from (0: the owner).

    ``message`` is the one that departed, None if a state did. ``rank`` is None where nobody's
    signature stands behind what is wrong: a file was changed or lost.
    """

    rank: int | None
    what: str
    message: SentMessage | None = None

    def __str__(self) -> str:
        if self.rank is None:
            return f"nobody is accused: {self.what}"
        return f"{f'segment {self.rank}' if self.rank else 'owner'}: {self.what}"


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The outcome of a stage, and of each segment in it.

    Parameters
    ----------
    faults
        Behind a FAIL, the first departure first.
    unjudged
        Segments that received something wrong before they did something wrong.
    withheld
        Segments that could not be audited, and why: what their trainers stated, if they depart; or
        that there is nothing to measure.
    notes
        False statements that change no verdict on the training, and files that were changed.
    segments
        Number of segments.
    """

    outcome: StageOutcome
    detail: str
    faults: tuple[StageFault, ...] = ()
    unjudged: tuple[int, ...] = ()
    withheld: tuple[StageFault, ...] = ()
    notes: tuple[StageFault, ...] = ()
    segments: int = 0

    @property
    def at_fault(self) -> tuple[int, ...]:
        """Ranks of the faults."""
        return tuple(fault.rank for fault in self.faults if fault.rank is not None)

    def outcome_of(self, segment: int) -> StageOutcome:
        """Return the outcome of one segment: others' faults do not touch it."""
        if segment in self.at_fault:
            return StageOutcome.FAIL
        if segment in self.unjudged or segment in (one.rank for one in self.withheld):
            return StageOutcome.OPEN
        if self.outcome.passed:
            return self.outcome
        # A stage that failed for others' sake was still compared in one way or the other.
        return StageOutcome.EXACT if self.compared_bits else StageOutcome.TOL

    #: Whether the comparison behind it was to the bit.
    compared_bits: bool = field(default=True, kw_only=True)

    def lines(self) -> list[str]:
        """Return the verdict as text, its class first."""
        text = [f"{self.outcome.value}  {self.detail}", *(f"  {found}" for found in self.faults)]
        text += [f"  not audited: {one}" for one in self.withheld]
        if self.unjudged:
            names = ", ".join(str(rank) for rank in self.unjudged)
            text.append(f"  not judged, as what they received had departed before: segment {names}")
        text += [f"  false, whatever the training: {note}" for note in self.notes]
        if self.segments and not self.outcome.passed:
            each = (f"{one} {self.outcome_of(one)}" for one in range(1, self.segments + 1))
            text.append(f"  segment by segment: {', '.join(each)}")
        return text


def exact_verdict(
    replay: StageReplay,
    claim: StageClaim,
    excuses: Mapping[int, str] = _NOBODY,
    notes: Sequence[StageFault] = (),
) -> StageVerdict:
    """Compare to the bit.

    Parameters
    ----------
    excuses
        Segment to what its trainer stated under which its bits could not be repeated here. It
        counts only if the segment departs: equal bits need no excuse.
    notes
        What else was found false, for the report.

    Raises
    ------
    EvidenceError
        The claim has no state for a segment, or no digests for a stream.
    """
    trace = replay.trace
    _check_claim_complete(replay, claim)
    # Per stream, first and last index its first wrong message can have: the same, where the list
    # of its messages is known. Behind it nothing is compared any more.
    departed = {
        stream: bounds
        for stream, digests in claim.digests.items()
        if (bounds := _departure_bounds(trace, stream, digests)) is not None
    }
    found: list[StageFault] = []
    unjudged: list[int] = []
    for rank in range(len(claim.states) + 1):
        fault, judged = _judge_rank(rank, replay, claim, departed)
        if fault is not None:
            found.append(fault)
        elif not judged:
            unjudged.append(rank)
    order = {message: place for place, message in enumerate(trace.sent)}
    # First departure first; faults of states have no message and come behind all messages.
    found.sort(key=lambda f: len(order) if f.message is None else order[f.message])
    faults = tuple(one for one in found if one.rank not in excuses)
    withheld = tuple(
        StageFault(one.rank, f"{excuses[one.rank]}, and {one.what}", one.message)
        for one in found
        if one.rank is not None and one.rank in excuses
    )
    outcome, detail = (
        StageOutcome.EXACT,
        (
            f"{len(trace.sent)} messages and the states of {len(claim.states)} segments are equal "
            "to the byte"
        ),
    )
    if faults:
        outcome, detail = StageOutcome.FAIL, "the stage was not trained as claimed"
    elif withheld or unjudged:
        outcome, detail = StageOutcome.OPEN, "not all segments could be audited"
    return StageVerdict(
        outcome,
        detail,
        faults,
        tuple(unjudged),
        withheld,
        tuple(notes),
        segments=len(claim.states),
    )


def _check_claim_complete(replay: StageReplay, claim: StageClaim) -> None:
    if len(claim.states) != len(replay.states):
        raise EvidenceError(
            f"{len(claim.states)} states are claimed for {len(replay.states)} segments",
            where="audit",
            remedy="Keep the checkpoints of all segments",
        )
    for message in replay.trace.sent:
        if message.stream not in claim.digests:
            raise EvidenceError(
                f"no message digests of {message.stream}",
                where="audit",
                remedy="Bring the HDF5 files of all ranks together",
            )


def _departure_bounds(
    trace: MessageTrace, stream: Stream, claimed: Sequence[bytes] | None
) -> tuple[int, int] | None:
    """Return where the first wrong message of a stream lies at the earliest and at the latest."""
    replayed = [message.digest for message in trace.messages_of(stream)]
    if claimed is None:
        # Another root was signed, and neither end has the list behind it: in favour of both, the
        # receiver is taken to have had wrong input from the first, the sender until the last.
        return 0, max(len(replayed) - 1, 0)
    # Not strict: a claim may be shorter or longer, which the last line tells.
    for index, (mine, theirs) in enumerate(zip(replayed, claimed, strict=False)):
        if mine != theirs:
            return index, index
    shorter = min(len(replayed), len(claimed))
    return None if len(replayed) == len(claimed) else (shorter, shorter)


def _judge_rank(
    rank: int, replay: StageReplay, claim: StageClaim, departed: Mapping[Stream, tuple[int, int]]
) -> tuple[StageFault | None, bool]:
    """Return what ``rank`` is at fault for, if anything, and whether it could be judged."""
    for event in replay.trace.events.get(rank, ()):
        earliest, latest = departed.get(event.stream, (event.index + 1, event.index + 1))
        if event.index < (latest if event.sends else earliest):
            continue
        # It received something wrong before it sent anything wrong: not judged (see above).
        if not event.sends:
            return None, False
        message = replay.trace.messages_of(event.stream)[event.index]
        return StageFault(rank, _fault_words(rank, message, claim), message), True
    for stream in departed:
        # What the replay has of this stream agrees: the claim has more.
        if stream.sender == rank:
            digests = claim.digests[stream]
            count = len(digests or ()) - len(replay.trace.messages_of(stream))
            words = f"{count} more messages" if digests is not None else "other messages"
            return StageFault(rank, f"{words} than the stage has, {stream}"), True
    # The owner has no state after a stage.
    if rank == 0:
        return None, True
    state = claim.states[rank - 1]
    if state is None:
        return StageFault(
            rank,
            "all messages agree, but its state after the stage is not the one it signed (which is "
            "in no file)",
        ), True
    difference = first_verdict_difference(state, replay.states[rank - 1])
    if difference is None:
        return None, True
    return StageFault(
        rank, f"all messages agree, but its state after the stage does not: {difference}"
    ), True


def _fault_words(rank: int, message: SentMessage, claim: StageClaim) -> str:
    if rank == 0:
        return f"the rows given to this audit are not those that were sent ({message})"
    digests = claim.digests[message.stream]
    if digests is None:
        return f"messages {message.stream} depart; all it had received until the last one agrees"
    kind = "is missing" if message.index >= len(digests) else "departs"
    return f"the {message} {kind}; all it had received until then agrees"


def first_verdict_difference(
    claimed: Mapping[str, Tensor], replayed: Mapping[str, Tensor]
) -> str | None:
    """Say where two states differ first, by name; None if they are equal to the byte."""
    for name in sorted(claimed.keys() | replayed.keys()):
        if name not in claimed or name not in replayed:
            return f"{name} is {'missing' if name not in claimed else 'unknown'}"
        theirs, mine = claimed[name], replayed[name]
        # Before the bytes: those of another dtype or shape may be equal by accident.
        if theirs.dtype != mine.dtype or theirs.shape != mine.shape:
            return (
                f"{name} is {theirs.dtype} {list(theirs.shape)} instead of "
                f"{mine.dtype} {list(mine.shape)}"
            )
        # The number of differing values, for people; the verdict needs only that there is one.
        odd = _tensor_bytes(theirs) != _tensor_bytes(mine)
        if bool(odd.any()):
            count = int(odd.reshape(mine.numel(), -1).any(dim=1).sum())
            return f"{count} of {mine.numel()} numbers of {name}"
    return None


def _tensor_bytes(tensor: Tensor) -> Tensor:
    """Return the bytes of ``tensor``: unlike numbers, they tell -0 from 0 and know NaN again."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)

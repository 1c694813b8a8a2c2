"""`StageVerdict`: what an audit says of a stage, and the comparison to the bit.

EXACT  Every message and every number of every state equals the replay's, byte for byte.
TOL    The states are as close as the tolerance asks; said where the bits cannot be equal (another
       processor or library). Weaker: it excludes work left out, not a careful small change.
FAIL   Neither. Compared to the bit, the verdict names who departed first, and in which message.

**Who is at fault.** The states before the stage and the digests of all messages are signed. A
segment is a deterministic function of its state and of what it receives. If what it sent departs
from the replay at a point up to which everything it had received agrees, then it did not compute
what it should have: its neighbours and the owner cannot bring that about. If all it sent agrees and
its final state does not, that is its own doing too. A segment that received something wrong before
it sent something wrong is not judged: what it did with a wrong message is not known here. So
nobody is accused of what another one did, and of all that departed the first is always named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from clicooper_hpc.audit.message_trace import MessageTrace, SentMessage, Stream
from clicooper_hpc.audit.replay import StageReplay
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.errors import EvidenceError

__all__ = ["StageFault", "StageOutcome", "StageVerdict", "exact_verdict"]


class StageOutcome(StrEnum):
    """Class of a verdict; never print one for another."""

    EXACT = "EXACT"
    TOL = "TOL"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class StageFault:
    """Something that is not as it should be, and the rank it came from (0: the owner).

    ``message`` is the one that departed, None if a state did.
    """

    rank: int
    what: str
    message: SentMessage | None = None

    def __str__(self) -> str:
        return f"{f'segment {self.rank}' if self.rank else 'owner'}: {self.what}"


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The outcome, the faults behind a FAIL (first departure first), and who was not judged."""

    outcome: StageOutcome
    detail: str
    faults: tuple[StageFault, ...] = ()
    unjudged: tuple[int, ...] = ()

    @property
    def at_fault(self) -> tuple[int, ...]:
        """Ranks of the faults."""
        return tuple(fault.rank for fault in self.faults)

    def lines(self) -> list[str]:
        """Return the verdict as text, its class first."""
        text = [f"{self.outcome.value}  {self.detail}", *(f"  {found}" for found in self.faults)]
        if self.unjudged:
            names = ", ".join(str(rank) for rank in self.unjudged)
            text.append(f"  not judged, as what they received had departed before: segment {names}")
        return text


def exact_verdict(replay: StageReplay, claim: StageClaim) -> StageVerdict:
    """Compare to the bit. Only fair where `StageAuditor.other_conditions` finds none.

    Raises
    ------
    EvidenceError
        The claim has no state for a segment, or no digests for a stream.
    """
    trace = replay.trace
    _check_claim_complete(replay, claim)
    # Per stream, the index of its first wrong message: behind it nothing is compared any more.
    departed = {
        stream: index
        for stream, digests in claim.digests.items()
        if (index := _first_departure(trace, stream, digests)) is not None
    }
    faults: list[StageFault] = []
    unjudged: list[int] = []
    for rank in range(len(claim.states) + 1):
        found, judged = _judge_rank(rank, replay, claim, departed)
        if found is not None:
            faults.append(found)
        elif not judged:
            unjudged.append(rank)
    if faults:
        order = {message: place for place, message in enumerate(trace.sent)}
        # First departure first; faults of states have no message and come behind all messages.
        faults.sort(key=lambda f: len(order) if f.message is None else order[f.message])
        return StageVerdict(
            StageOutcome.FAIL,
            "the stage was not trained as claimed",
            tuple(faults),
            tuple(unjudged),
        )
    return StageVerdict(
        StageOutcome.EXACT,
        f"{len(trace.sent)} messages and the states of {len(claim.states)} segments are equal "
        "to the byte",
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


def _first_departure(trace: MessageTrace, stream: Stream, claimed: Sequence[bytes]) -> int | None:
    """Return the index of the first message that differs, is missing, or is one too many."""
    replayed = [message.digest for message in trace.messages_of(stream)]
    # Not strict: a claim may be shorter or longer, which the last line tells.
    for index, (mine, theirs) in enumerate(zip(replayed, claimed, strict=False)):
        if mine != theirs:
            return index
    return None if len(replayed) == len(claimed) else min(len(replayed), len(claimed))


def _judge_rank(
    rank: int, replay: StageReplay, claim: StageClaim, departed: Mapping[Stream, int]
) -> tuple[StageFault | None, bool]:
    """Return what ``rank`` is at fault for, if anything, and whether it could be judged."""
    for event in replay.trace.events.get(rank, ()):
        if event.index < departed.get(event.stream, event.index + 1):
            continue
        # It received something wrong before it sent anything wrong: not judged (see above).
        if not event.sends:
            return None, False
        message = replay.trace.messages_of(event.stream)[event.index]
        return StageFault(rank, _fault_words(rank, message, claim), message), True
    for stream in departed:
        # What the replay has of this stream agrees: the claim has more.
        if stream.sender == rank:
            count = len(claim.digests[stream]) - len(replay.trace.messages_of(stream))
            return StageFault(rank, f"{count} more messages than the stage has, {stream}"), True
    # The owner has no state after a stage.
    if rank == 0:
        return None, True
    difference = first_verdict_difference(claim.states[rank - 1], replay.states[rank - 1])
    if difference is None:
        return None, True
    return StageFault(
        rank, f"all messages agree, but its state after the stage does not: {difference}"
    ), True


def _fault_words(rank: int, message: SentMessage, claim: StageClaim) -> str:
    if rank == 0:
        return f"the rows given to this audit are not those that were sent ({message})"
    kind = "is missing" if message.index >= len(claim.digests[message.stream]) else "departs"
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

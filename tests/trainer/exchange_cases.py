"""One trainer's exchange of proofs over a forged ledger, without MPI: what comes is scripted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

from forge import SAMPLES, START, STEPS, Alter, Forge, changed, h, owner_and_trainers

from clicooper_hpc.digests import Digest
from clicooper_hpc.provenance.envelope import Envelope, parse_envelope, sign_envelope
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.ledger_replica import LedgerReplica
from clicooper_hpc.provenance.ledger_update import LedgerUpdate
from clicooper_hpc.provenance.proof_message import ProofMessage
from clicooper_hpc.provenance.statements import RunStatement, parse_statement
from clicooper_hpc.runstore.tables.writer import TableWriter
from clicooper_hpc.trainer.proof_exchange import Participant, ProofExchange
from clicooper_hpc.training.message_digests import Channel, ChannelRecord
from clicooper_hpc.training.run_plan import DATA_ORDER_TAG, StageOrder
from clicooper_hpc.transport.world import World

__all__ = [
    "HANDOFF",
    "IDENTITIES",
    "ORDER",
    "PROOF",
    "SEGMENT",
    "STAGE",
    "TICKET",
    "FakeWorld",
    "FakeWriter",
    "exchange_of",
    "forge",
    "message_of",
    "others",
    "records",
    "run_statement",
]

#: The trainer under test, the last of three, and the stage it is in.
SEGMENT, STAGE = 3, 1
IDENTITIES = owner_and_trainers(3)
RUN = EntryId("run")
TICKET = EntryId("ticket", STAGE, SEGMENT)
#: What the rank before it sends.
HANDOFF = EntryId("handoff", STAGE, SEGMENT - 1)
PROOF = EntryId("stage", STAGE, SEGMENT - 1)
ORDER = StageOrder(Digest(DATA_ORDER_TAG, bytes.fromhex(h("order", STAGE))), SAMPLES)


@dataclass
class FakeWorld:
    """Rank ``rank``: what comes in from the rank before, or from the owner to all, in turn."""

    rank: int
    incoming: list[bytes] = field(default_factory=list)
    from_owner: list[bytes] = field(default_factory=list)

    def receive_blob(self, peer: int, **options: Any) -> bytearray:
        assert peer == self.rank - 1
        return bytearray(self.incoming.pop(0))

    def broadcast_bytes(self, payload: None, **options: Any) -> bytes:
        return self.from_owner.pop(0)


@dataclass
class FakeWriter:
    """Keeps the heads that are stored."""

    heads: list[tuple[int, str]] = field(default_factory=list)

    def append(self, table: str, values: Mapping[str, Any]) -> None:
        assert table == "heads"
        self.heads.append((values["size"], values["root"]))


def records() -> dict[Channel, ChannelRecord]:
    """Return what went over the channels of this rank in the stage."""

    def record(channel: str) -> ChannelRecord:
        places = [(step, 0) for step in range(STEPS * STAGE, STEPS * (STAGE + 1))]
        digests = [bytes.fromhex(h(channel, *place)) for place in places]
        return ChannelRecord(digests, places, size=400 * STEPS)

    return {
        "forward_in": record("forward in"),
        "forward_out": ChannelRecord(),
        "backward_in": ChannelRecord(),
        "backward_out": record("backward out"),
    }


def forge(alter: Mapping[EntryId, Alter] | None = None, **settings: Any) -> Forge:
    """Return a built ledger whose hand-off in this stage speaks of `records`, before ``alter``."""
    mine = records()
    flows = changed(forward=mine["forward_in"].flow(), backward=mine["backward_out"].flow())
    lies = dict(alter or {})
    later = lies.pop(HANDOFF, changed())
    one = Forge(
        identities=IDENTITIES,
        alter={HANDOFF: lambda predicate: later(flows(predicate)), **lies},
        **settings,
    )
    one.build()
    return one


def exchange_of(
    one: Forge,
    *incoming: ProofMessage,
    updates: Sequence[LedgerUpdate] = (),
    has_ledger: bool = True,
    writer: FakeWriter | None = None,
) -> ProofExchange:
    """Return the exchange of this rank while the stage runs, or before a restart has its ledger.

    ``incoming`` come one by one from the rank before, ``updates`` from the owner.
    """
    ledger = LedgerReplica(one.run_id, one.order)
    for content in one.entries[: one.order.index_of("handoff", STAGE, 0) if has_ledger else 0]:
        ledger.append(parse_envelope(content))
    world = FakeWorld(
        SEGMENT,
        [message.to_bytes() for message in incoming],
        [update.to_bytes() for update in updates],
    )
    keys = (one.owner.public, *(identity.public for identity in one.trainers))
    return ProofExchange(
        cast(World, world),
        Participant(one.run_id, one.identity(SEGMENT), keys, start=START, wait_s=1.0),
        ledger,
        cast(TableWriter, writer or FakeWriter()),
    )


def message_of(one: Forge, *, proof: bool = True) -> ProofMessage:
    """Return what the rank before sends at the end of the stage: its signature alone is there."""
    # In the ledger the hand-off has both signatures; on the way to this rank the sender's.
    stored = one.envelopes[HANDOFF]
    signer = one.identity(one.sign_as.get(HANDOFF, (SEGMENT - 1,))[0])
    handoff: Envelope = sign_envelope(stored.payload, signer)
    return ProofMessage(handoff, one.envelopes[PROOF] if proof else None)


def run_statement(one: Forge) -> RunStatement:
    """Return the owner's statement of the run."""
    run = parse_statement(one.envelopes[RUN].payload)
    assert isinstance(run, RunStatement)
    return run


def others(bounds: tuple[int, ...]) -> tuple[int, ...]:
    """Return other stages, as many and as long in all: the second begins one step later."""
    moved = (bounds[0], bounds[1] + 1, *bounds[2:])
    assert all(first < last for first, last in pairwise(moved))
    return moved

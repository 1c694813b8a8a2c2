"""What the rows of the tamper matrix are made with.

Three kinds of liars. Somebody with the run folder only changes what is stored. The owner, or a
trainer with the owner's help, also has keys: the lie is built in before anything is signed
(`Forge.alter`, `Forge.sign_as`), or the ledger is sealed again over changed entries (`resealed`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from forge import Forge, changed, owner_and_trainers, resealed

from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.envelope import countersign_envelope, parse_envelope, sign_envelope
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.verification.evidence import Evidence

#: All rows are about this run: identities are made once.
IDENTITIES = owner_and_trainers(3)
PROOF = EntryId("stage", 1, 2)
TICKET = EntryId("ticket", 1, 2)
HANDOFF = EntryId("handoff", 1, 1)
ENROLMENT = EntryId("enrolment", 0, 2)
RUN = EntryId("run")
DELIVERY = EntryId("delivery")


@dataclass(frozen=True)
class Row:
    """A lie: name, what is done, the checks that fail, and words that one of them says."""

    name: str
    lie: Callable[[], Evidence]
    fails: frozenset[int]
    says: str


Lie = Callable[[], Evidence]


def collector() -> tuple[list[Row], Callable[[set[int], str], Callable[[Lie], Lie]]]:
    """Return a list of rows, and the decorator that adds a lie to it."""
    rows: list[Row] = []

    def row(fails: set[int], says: str) -> Callable[[Lie], Lie]:
        def add(lie: Lie) -> Lie:
            rows.append(Row(lie.__name__, lie, frozenset(fails), says))
            return lie

        return add

    return rows, row


#: What was forged last, for whoever wants to see it enter a ledger.
FORGED: list[Forge] = []


def forge(**settings: Any) -> Forge:
    FORGED[:] = [Forge(identities=IDENTITIES, **settings)]
    return FORGED[0]


def honest(**settings: Any) -> Evidence:
    return forge(**settings).build()


def index(place: EntryId) -> int:
    return forge().order.index_of(place.kind, place.stage, place.segment)


def with_entry(
    place: EntryId, change: Callable[[bytes], bytes], *, sealed: bool = False
) -> Evidence:
    """Return evidence with one stored entry changed; ``sealed``: checkpoints made to fit."""
    one = forge()
    evidence = one.build()
    entries = list(evidence.entries)
    entries[index(place)] = change(entries[index(place)])
    if sealed:
        return resealed(one, evidence, entries)
    return replace(evidence, entries=tuple(entries))


def in_payload(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the payload inside an envelope and leave its signatures alone."""

    def apply(entry: bytes) -> bytes:
        document = json.loads(entry)
        payload = change(base64.b64decode(document["payload"]))
        document["payload"] = base64.b64encode(payload).decode()
        return encode_canonical_json(document)

    return apply


def signed_again(change: Callable[[bytes], bytes], *signers: int) -> Callable[[bytes], bytes]:
    """Change the payload and have the envelope signed by these ranks."""

    def apply(entry: bytes) -> bytes:
        payload = change(parse_envelope(entry).payload)
        identities = [forge().identity(rank) for rank in signers]
        envelope = sign_envelope(payload, identities[0])
        for identity in identities[1:]:
            envelope = countersign_envelope(envelope, identity)
        return envelope.to_bytes()

    return apply


def flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def forged(place: EntryId, **values: object) -> Evidence:
    """Return a ledger in which one predicate was another from the beginning."""
    return honest(alter={place: changed(**values)})


def signed_by(place: EntryId, *ranks: int) -> Evidence:
    return honest(sign_as={place: ranks})

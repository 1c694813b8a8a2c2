"""Two ledgers, or two proofs, under one key name whoever has it; anything else nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from forge import Forge, changed, h, owner_and_trainers

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope
from clicooper_hpc.provenance.equivocation import EQUIVOCATION_BYTES, Equivocation
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.statements import Flow, Interval, MarkClaim
from clicooper_hpc.provenance.tree_checkpoint import OWNER_NAME, SignedCheckpoint
from clicooper_hpc.verification.run_checks import run_checks

KEYS = owner_and_trainers(3)
FORK = EntryId("ticket", 1, 1)


def notes(**settings: object) -> list[str]:
    """Return the owner's notes over a ledger, oldest first."""
    one = Forge(identities=KEYS, **settings)  # type: ignore[arg-type]
    one.build()
    return one.seen_notes


ONE, OTHER = notes(), notes(alter={FORK: changed(nonce=h("the other ledger"))})
RUN_ID = Forge(identities=KEYS).run_id


def resigned(note: str, identity: Identity) -> str:
    return (
        replace(SignedCheckpoint.parse(note), signatures=()).cosign(identity, OWNER_NAME).to_text()
    )


def test_two_notes_of_one_size_are_told_with_their_size() -> None:
    found = Equivocation.from_bytes(Equivocation(ONE[-1], OTHER[-1]).to_bytes(), where="here")
    assert found.forked_size(KEYS[0].public, RUN_ID, where="here") == 23


FORGED: dict[str, Callable[[], Equivocation]] = {
    "the same note twice": lambda: Equivocation(ONE[-1], ONE[-1]),
    "one ledger at two sizes": lambda: Equivocation(ONE[-2], ONE[-1]),
    "before the fork": lambda: Equivocation(ONE[0], OTHER[0]),
    "signed by a trainer": lambda: Equivocation(ONE[-1], resigned(OTHER[-1], KEYS[1][0])),
    "of another run": lambda: Equivocation(
        *(
            notes(run_id="b" * 32, **more)[-1]
            for more in ({}, {"alter": {FORK: changed(nonce=h("the other ledger"))}})
        )
    ),
    "no note": lambda: Equivocation(ONE[-1], "two ledgers, I swear"),
    "a bit changed": lambda: Equivocation(ONE[-1], OTHER[-1].replace("23", "22", 1)),
}


PROOF = EntryId("stage", 1, 2)
TRAINERS = [one.public for one in KEYS[1]]
OTHER_WEIGHTS: dict[str, Any] = {"weights_out": h("other weights")}


def proof(ranks: Sequence[int] = (2,), place: EntryId = PROOF, **values: Any) -> Envelope:
    """Return a proof of stage 1 by rank 2 as it is, but for these values and signers."""
    run_id = str(values.pop("run_id", RUN_ID))
    one = Forge(identities=KEYS, run_id=run_id, sign_as={place: ranks})
    one.alter = {place: changed(**values)}
    one.build()
    return one.envelopes[place]


def pair(ranks: Sequence[int] = (2,), **values: Any) -> Equivocation:
    """Return the proof of the run, and one of other weights with these values too."""
    return Equivocation.of_proofs(proof(), proof(ranks, **OTHER_WEIGHTS, **values))


def test_two_proofs_of_one_stage_are_told_with_their_trainer() -> None:
    found = Equivocation.from_bytes(pair().to_bytes(), where="here")
    assert found.doubled_proof(TRAINERS, RUN_ID, where="here") == (2, 1)
    rank, words = found.accuse(KEYS[0].public, TRAINERS, RUN_ID, where="here")
    assert (rank, words) == (2, "it signed two proofs of stage 1 in one start of the run")


def test_a_proof_that_differs_in_its_time_alone_is_another() -> None:
    later = Interval(start="2026-01-02T03:04:05Z", end="2026-01-02T03:05:06Z")
    found = Equivocation.of_proofs(proof(), proof(time=later))
    assert found.doubled_proof(TRAINERS, RUN_ID, where="here") == (2, 1)


FORGED |= {
    "the same proof twice": lambda: Equivocation.of_proofs(proof(), proof()),
    # After a kill an honest trainer may have to prove a stage again.
    "proofs of two starts": lambda: pair(start=h("another start")),
    "proofs of two stages": lambda: pair(stage=0),
    "proofs of two segments": lambda: pair(segment=1),
    "proofs of two segments by their trainers": lambda: Equivocation.of_proofs(
        proof(), proof((1,), EntryId("stage", 1, 1))
    ),
    "a proof by a stranger": lambda: pair((-1,)),
    "a proof by the trainer behind": lambda: pair((3,)),
    "a proof by the owner": lambda: pair((0,)),
    "a proof of two signers": lambda: pair((2, 3)),
    "proofs by another than their trainer": lambda: Equivocation.of_proofs(
        proof((3,)), proof((3,), **OTHER_WEIGHTS)
    ),
    "a proof of another run": lambda: pair(run_id="b" * 32),
    "proofs of another run": lambda: Equivocation.of_proofs(
        proof(run_id="b" * 32), proof(run_id="b" * 32, **OTHER_WEIGHTS)
    ),
    "proofs of a segment that is not": lambda: Equivocation.of_proofs(
        proof((3,), segment=4), proof((3,), segment=4, **OTHER_WEIGHTS)
    ),
    "hand-offs": lambda: Equivocation.of_proofs(
        proof((2, 3), EntryId("handoff", 1, 2)),
        proof((2, 3), EntryId("handoff", 1, 2), backward=Flow(messages=1, bytes=1, root=h("x"))),
    ),
    "a proof changed afterwards": lambda: Equivocation.of_proofs(
        proof(),
        replace(proof(), payload=proof().payload.replace(b'"errors":0', b'"errors":1')),
    ),
    "no proof": lambda: Equivocation("two proofs", "I swear", kind="proofs"),
    "proofs said to be notes": lambda: replace(pair(), kind="ledgers"),
    "notes said to be proofs": lambda: Equivocation(ONE[-1], OTHER[-1], kind="proofs"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_is_no_such_pair_accuses_nobody(forge: Callable[[], Equivocation]) -> None:
    found = forge()
    with pytest.raises(EvidenceError):
        found.accuse(KEYS[0].public, TRAINERS, RUN_ID, where="here")
    evidence = replace(Forge(identities=KEYS).build(), equivocations={"x.json": found.to_bytes()})
    check = run_checks(evidence)[15]
    assert check.passed
    assert "files of evidence that is none: 1" in check.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"first":"","format":"","second":""}',
        b'{"first":"","format":1,"second":""}',
        b"x" * 20000,
    ],
)
def test_files_of_another_kind_are_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        Equivocation.from_bytes(content, where="here")


def test_evidence_fits_its_limit() -> None:
    assert len(Equivocation(ONE[-1], OTHER[-1]).to_bytes()) < EQUIVOCATION_BYTES


def test_a_trainer_cannot_make_its_proofs_too_long_for_evidence() -> None:
    most = 2**53 - 1
    long = f"-{'9' * 18}.{'9' * 18}"
    mark = MarkClaim(chain=h("c"), leaf_index=most, errors=most, statistic=long)
    times = (f"2026-01-02T03:04:05.{end}+00:00" for end in ("000001", "000002"))
    start, end = times
    longest: dict[str, Any] = {
        "mark": mark,
        "steps": most,
        "samples": most,
        "time": Interval(start=start, end=end),
        # As long as the numbers of any run.
        "segment": 65535,
        "stage": 65534,
    }
    both = [proof(**longest), proof(**longest, **OTHER_WEIGHTS)]
    content = Equivocation.of_proofs(*both).to_bytes()
    assert len(content) < EQUIVOCATION_BYTES
    assert Equivocation.from_bytes(content, where="here").kind == "proofs"

"""Two ledgers under one key name whoever has it; anything else accuses nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from forge import Forge, changed, h, owner_and_trainers

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.equivocation import EQUIVOCATION_BYTES, Equivocation
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.ledger_order import EntryId
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


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_what_is_no_such_pair_accuses_nobody(forge: Callable[[], Equivocation]) -> None:
    found = forge()
    with pytest.raises(EvidenceError):
        found.forked_size(KEYS[0].public, RUN_ID, where="here")
    evidence = replace(Forge(identities=KEYS).build(), equivocations={"x.json": found.to_bytes()})
    check = run_checks(evidence)[15]
    assert check.passed
    assert "files of evidence that is none: 1" in check.detail


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"first":"","format":"","second":""}', b"x" * 20000]
)
def test_files_of_another_kind_are_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        Equivocation.from_bytes(content, where="here")


def test_evidence_fits_its_limit() -> None:
    assert len(Equivocation(ONE[-1], OTHER[-1]).to_bytes()) < EQUIVOCATION_BYTES

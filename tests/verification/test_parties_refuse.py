"""What `verify` refuses of one party the others refuse before the run is called complete."""

from __future__ import annotations

from collections.abc import Iterator

import lies_files
import lies_stages
import pytest
from forge import Forge
from forged_owner import Stage, enrol
from lies import FORGED, Row, forge

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.verification.own_ledger import verify_own_ledger

#: Statements that trainers sign, alone or with a neighbour.
THEIRS = {"enrolment", "handoff", "stage"}


def lies_of_trainers() -> Iterator[tuple[Row, Forge, bool | None]]:
    """Yield every row that was built into what trainers sign, and the marks its job demands."""
    for row in lies_stages.ROWS:
        evidence = row.lie()
        (one,) = FORGED
        touched = {place.kind for place in [*one.alter, *one.sign_as]}
        honest = not (touched or one.plans or one.marks != evidence.marks)
        # Rows that change the stored bytes afterwards are those of strangers.
        if not honest and touched <= THEIRS and list(evidence.entries) == one.entries:
            yield row, one, evidence.marks


CASES = list(lies_of_trainers())


def logged(one: Forge, marks: bool | None) -> None:
    """Let the trainers enrol, and every stage enter the ledger."""
    enrol(one, marks=marks)
    for stage in range(one.stages):
        Stage(one, stage=stage).log()


def test_an_honest_run_enters_the_ledger() -> None:
    one = forge()
    one.build()
    logged(one, True)


@pytest.mark.parametrize(("row", "one", "marks"), CASES, ids=[row.name for row, _, _ in CASES])
def test_a_lie_of_trainers_never_enters_the_ledger(
    row: Row, one: Forge, marks: bool | None
) -> None:
    with pytest.raises(EvidenceError) as caught:
        logged(one, marks)
    # For what it is, not for something else that a forged run lacks.
    places = {*one.alter, *one.sign_as, *(EntryId("enrolment", 0, i) for i in one.plans)}
    names = {
        f"enrolment of rank {place.segment}"
        if place.kind == "enrolment"
        # Or by the next stage, which does not go on from what was signed.
        else str(EntryId(place.kind, stage, place.segment))
        for place in places or {EntryId("enrolment", 0, 1)}
        for stage in range(one.stages)
    }
    assert caught.value.where in names


def owners_too() -> Iterator[tuple[Row, Forge, bool | None]]:
    """Yield every row that was built into the statements of anybody, the run statement left out."""
    for row in [*lies_stages.ROWS, *lies_files.ROWS]:
        evidence = row.lie()
        (one,) = FORGED
        touched = {place.kind for place in [*one.alter, *one.sign_as]}
        if touched and "run" not in touched and list(evidence.entries) == one.entries:
            yield row, one, evidence.marks


OWNERS = list(owners_too())


def test_an_honest_ledger_is_cosigned() -> None:
    for marks in (True, False):
        one = forge(marks=marks)
        one.build()
        verify_own_ledger(one.entries, one.run_id, marks=marks)


@pytest.mark.parametrize(("row", "one", "marks"), OWNERS, ids=[row.name for row, *_ in OWNERS])
def test_a_ledger_with_a_lie_is_not_cosigned(row: Row, one: Forge, marks: bool | None) -> None:
    with pytest.raises(EvidenceError, match="is not cosigned"):
        verify_own_ledger(one.entries, one.run_id, marks=marks)


def test_lies_of_the_owner_are_among_them() -> None:
    assert set().union(*(row.fails for row, *_ in OWNERS)) >= {6, 7, 8, 9, 10, 11, 12, 13}
    assert {place.kind for _, one, _ in OWNERS for place in [*one.alter, *one.sign_as]} == {
        "enrolment",
        "ticket",
        "handoff",
        "stage",
        "delivery",
    }


def test_every_check_of_what_trainers_sign_is_among_them() -> None:
    """Checks 6 to 12 without the tickets, which are the owner's."""
    assert set().union(*(row.fails for row, _, _ in CASES)) >= {6, 8, 9, 10, 11, 12}
    assert len(CASES) >= 30

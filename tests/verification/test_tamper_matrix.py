"""The tamper matrix: every row is one lie and the checks that must notice it, no more, no fewer."""

from __future__ import annotations

import lies_files
import lies_ledger
import lies_stages
import pytest
from lies import Row, honest

from clicooper_hpc.verification.run_checks import CheckResult, run_checks

ROWS = [*lies_ledger.ROWS, *lies_stages.ROWS, *lies_files.ROWS]


def failed(results: list[CheckResult]) -> dict[int, str]:
    return {result.number: result.detail for result in results if result.passed is False}


def test_the_honest_run_passes_every_check() -> None:
    assert [result.passed for result in run_checks(honest())] == [True] * 19


@pytest.mark.parametrize("one", ROWS, ids=[one.name for one in ROWS])
def test_every_lie_fails_its_checks_and_no_others(one: Row) -> None:
    problems = failed(run_checks(one.lie()))
    assert set(problems) == one.fails, problems
    assert any(one.says in detail for detail in problems.values()), problems


@pytest.mark.parametrize(
    ("lie", "named"),
    [
        # Its trainer, or the one before, which may have signed two proofs.
        ("proof_that_names_another_neighbour", ()),
        ("proof_of_segment_1_without_the_owners_release", (1,)),
    ],
)
def test_a_trainer_is_named_only_for_what_it_alone_can_have_caused(
    lie: str, named: tuple[int, ...]
) -> None:
    (one,) = (row for row in ROWS if row.name.replace(" ", "_") == lie)
    (found,) = (result for result in run_checks(one.lie()) if result.passed is False)
    assert (found.number, found.segments) == (11, named)


def test_the_matrix_reaches_every_check() -> None:
    assert len(ROWS) >= 90
    assert set().union(*(one.fails for one in ROWS)) == set(range(1, 20))

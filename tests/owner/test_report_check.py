"""A report that cannot be is refused by the name of who sent it."""

from __future__ import annotations

import pytest

from clicooper_hpc.errors import PeerError
from clicooper_hpc.owner.report_check import check_report

HONEST = (2.3, 0.25, 0.1, 0.0)


def check(*values: float) -> None:
    check_report(values, step=7, rate=0.1, sender="rank 3")


def test_what_can_be_is_taken() -> None:
    for stop in (0.0, 1.0):
        check(*HONEST[:3], stop)
    check(0.0, 0.0, 0.1, 0.0)
    check(1e30, 1.0, 0.1, 0.0)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (0, -0.1, "a loss of -0.1"),
        (1, 1.5, "an accuracy of 1.5"),
        (1, -0.5, "an accuracy of -0.5"),
        (2, 0.2, "the learning rate 0.2 instead of 0.1"),
        (3, 0.5, "0.5 where a stop is asked for by 1"),
    ],
)
def test_what_cannot_be_is_refused(place: int, value: float, says: str) -> None:
    values = [*HONEST]
    values[place] = value
    with pytest.raises(PeerError) as refused:
        check(*values)
    line = refused.value.line()
    assert line.startswith("message from rank 3 (control), metrics of step 7: the report says ")
    assert says in line
    assert line.endswith("else rank 3 is at fault")

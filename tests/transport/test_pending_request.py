"""Waiting: polls until done, gives up in words, keeps MPI's faults apart from our own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.pending_request import PendingMessage, wait_for_request

WHAT = PendingMessage(
    me=2, peer=1, direction="forward", kind=Kind.ACTIVATION, step=3, micro_batch=1
)


class Request:
    """Completes at the given poll; raises ``fault`` there if there is one."""

    def __init__(self, polls: int, fault: Exception | None = None) -> None:
        self.left = polls
        self.fault = fault

    def Test(self, status: Any = None) -> bool:  # noqa: N802
        self.left -= 1
        if self.left <= 0 and self.fault is not None:
            raise self.fault
        return self.left <= 0


def test_complete_request_costs_no_wait() -> None:
    assert wait_for_request(Request(1), deadline_s=1.0, what=WHAT) == 0.0


def test_polls_through_all_phases_until_done() -> None:
    request = Request(2000)
    assert wait_for_request(request, deadline_s=60.0, what=WHAT) > 0.0
    assert request.left == 0


def test_deadline_names_ranks_message_direction_and_remedy() -> None:
    with pytest.raises(PeerError) as caught:
        wait_for_request(Request(10**9), deadline_s=0.01, what=WHAT)
    assert caught.value.line().startswith(
        "rank 2 waited 0.01 s for the activation of step 3, micro-batch 1 from rank 1 (forward). "
        "Look at the last output of rank 1"
    )


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (replace(WHAT, sending=True), "for rank 1 to take the activation of step 3, micro-batch 1"),
        (replace(WHAT, chunk=True, kind=Kind.SEGMENT), "the segment of step 3, chunk 1 from"),
        (replace(WHAT, micro_batch=None, kind=Kind.NORM), "the gradient norm of step 3 from"),
    ],
)
def test_deadline_words_fit_the_wait(what: PendingMessage, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        wait_for_request(Request(10**9), deadline_s=0.0, what=what)


def test_late_request_can_be_waited_for_again() -> None:
    request = Request(10**9)
    with pytest.raises(PeerError):
        wait_for_request(request, deadline_s=0.0, what=WHAT)
    request.left = 1
    assert wait_for_request(request, deadline_s=1.0, what=WHAT) == 0.0


def test_errors_that_are_not_of_mpi_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match="from a signal handler"):
        wait_for_request(
            Request(5, RuntimeError("from a signal handler")), deadline_s=1.0, what=WHAT
        )

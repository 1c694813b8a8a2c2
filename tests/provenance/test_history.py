"""What of a ledger stands between two lives of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.chain import LedgerOrder
from clicooper_hpc.provenance.history import LedgerSnapshot, proved_stages, standing_size

#: Run statement, 2 enrolments; per stage 2 tickets, 2 hand-offs, 2 proofs; delivery.
ORDER = LedgerOrder(segments=2, stages=3)


@pytest.mark.parametrize(
    ("entries", "stands", "proved"),
    [
        (0, 0, 0),
        (2, 0, 0),  # an enrolment is missing: nobody was told anything
        (3, 3, 0),
        (4, 3, 0),  # one ticket of two
        (5, 5, 0),
        (8, 5, 0),  # a proof is missing
        (9, 9, 1),
        (11, 11, 1),
        (21, 21, 3),
        (22, 22, 3),  # closed
    ],
)
def test_half_a_step_of_the_ledger_does_not_stand(entries: int, stands: int, proved: int) -> None:
    assert standing_size(ORDER, entries) == stands
    assert proved_stages(ORDER, stands) == proved


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 200))
def test_what_was_told_always_stands(segments: int, stages: int, entries: int) -> None:
    order = LedgerOrder(segments, stages)
    entries = min(entries, order.size)
    stands = standing_size(order, entries)
    told = [size for size in order.checkpoint_sizes() if size <= entries]
    assert max(told, default=0) <= stands <= entries
    # At most the tickets lie behind the last checkpoint that was signed.
    assert stands - max(told, default=0) in {0, segments}


def test_a_history_survives_the_wire_and_nothing_else_does() -> None:
    history = LedgerSnapshot((b'{"a":1}', b"{}"), ("note one", "note two \u2014"))
    assert LedgerSnapshot.from_bytes(history.to_bytes(), limit=1000) == history
    for damaged in (b"[]", b'{"entries":[]}', b'{"entries":[1],"notes":[]}'):
        with pytest.raises(EvidenceError):
            LedgerSnapshot.from_bytes(damaged, limit=1000)

"""What the owner sends before the first step is parsed as anybody's: one line, and bounded."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pandas as pd
import pytest

from clicooper_hpc.errors import PeerError
from clicooper_hpc.run.agreement import check_told_alike
from clicooper_hpc.run.completion import check_nothing_to_do, completion_problem
from clicooper_hpc.run.owner_counts import parse_owner_count, parse_owner_counts
from clicooper_hpc.run.run_request import RunRequest
from clicooper_hpc.training.contract import Contract

GARBAGE = [b"", b"\xff\x00", b"{", b"[" * 60_000, b"null", b"true", b'"a"']
CONTRACT = Contract((3, 8, 8), 60, 20, 20)


def line_of(refused: pytest.ExceptionInfo[PeerError]) -> str:
    line = refused.value.line()
    assert line.startswith("message from rank 0 (control): ")
    return line


def test_an_honest_contract_comes_through() -> None:
    assert Contract.decode_contract(CONTRACT.encode_contract()) == CONTRACT


@pytest.mark.parametrize("content", GARBAGE, ids=repr)
def test_what_is_no_contract_is_refused(content: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        Contract.decode_contract(content)
    line_of(refused)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"release_shape": []}, "something else than counts"),
        ({"release_shape": [True]}, "something else than counts"),
        ({"samples": -1}, "something else than counts"),
        ({"samples": 1.5}, "something else than counts"),
        ({"samples": 0}, "0 samples"),
        ({"samples": 2**40}, "1099511627776 samples"),
        ({"validation_samples": 2**40}, "1099511627776 validation samples"),
        ({"outputs": 0}, "0 sub-labels"),
        ({"outputs": 2**50}, "1125899906842624 sub-labels"),
        ({"release_shape": [2**20, 2**20]}, "1099511627776 numbers of a row"),
        ({"release_shape": [0]}, "0 numbers of a row"),
        ({"more": 1}, "cannot be read"),
    ],
    ids=str,
)
def test_a_contract_does_not_size_buffers_at_will(values: dict[str, Any], says: str) -> None:
    with pytest.raises(PeerError) as refused:
        Contract.decode_contract(json.dumps({**asdict(CONTRACT), **values}).encode())
    assert says in line_of(refused)


@pytest.mark.parametrize(
    "content",
    [*GARBAGE, b"[1, 2, 3, 4]", b'["a", "b", "c"]', b'["\\u0000", "", "", null]'],
    ids=repr,
)
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        RunRequest.decode_request(content)
    assert "the request to run" in line_of(refused)


@pytest.mark.parametrize(
    "content", [*GARBAGE, b"[-1]", b"[1.0]", b"[true]", b'["1"]', b"[[1]]", b"[9e99]"], ids=repr
)
def test_what_is_no_list_of_counts_is_refused(content: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        parse_owner_counts(content, what="the cuts")
    assert "the cuts" in line_of(refused)
    assert parse_owner_counts(b"[8, 4]", what="the cuts") == [8, 4]


@pytest.mark.parametrize("content", [b"", b"-1", b"1.0", b"x", b"9" * 32], ids=repr)
def test_what_is_no_count_is_refused(content: bytes) -> None:
    with pytest.raises(PeerError) as refused:
        parse_owner_count(content, what="the size of the ledger")
    assert "the size of the ledger is no number" in line_of(refused)
    assert parse_owner_count(b"15", what="the size") == 15


class FakeRun:
    """A run of 2 trainers: the index says what it is told to, the file of a trainer what is so."""

    hosts = ("host",) * 3

    def __init__(self, status: str, heads: list[int], epochs: list[int], planned: int = 3) -> None:
        self.status = status
        self.job = {"training": {"epochs": planned}}
        self._tables = {
            "heads": pd.DataFrame({"size": heads}),
            "steps": pd.DataFrame({"epoch": epochs}),
        }

    def table(self, name: str, rank: int) -> pd.DataFrame:
        return self._tables[name]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        # Two stages: run statement, 2 enrolments, 6 entries each, the delivery.
        (FakeRun("complete", [3, 9, 15, 16], [0, 1, 2]), None),
        (FakeRun("complete", [3, 9, 10], [0, 1, 2]), None),
        (FakeRun("complete", [], [0, 1, 2]), None),
        (FakeRun("incomplete", [3, 9, 15, 16], [0, 1, 2]), "the index does not say"),
        (FakeRun("complete", [3, 9, 15], [0, 1, 2]), "a ledger of 15 entries"),
        (FakeRun("complete", [3], [0]), "a ledger of 3 entries"),
        (FakeRun("complete", [], [0, 1]), "rows of 2 epochs of 3"),
        (FakeRun("complete", [], []), "rows of 0 epochs of 3"),
    ],
)
def test_a_trainer_knows_whether_a_run_is_complete(run: Any, says: str | None) -> None:
    problem = completion_problem(run, 1)
    assert (problem is None) if says is None else says in (problem or "")


def test_a_start_that_was_to_begin_a_run_has_something_to_do() -> None:
    with pytest.raises(PeerError, match="there is nothing to do, it says, but") as refused:
        check_nothing_to_do(None, 1)
    line_of(refused)


class FakeWorld:
    """One rank of four; what neighbours send lies in ``mail`` by sender."""

    size = 4

    def __init__(self, rank: int, mail: dict[int, bytes]) -> None:
        self.rank = rank
        self._mail = mail

    def send_blob(self, peer: int, payload: bytes, **_: Any) -> None:
        assert peer == self.rank + 1
        self._mail[self.rank] = payload

    def receive_blob(self, peer: int, *, limit_bytes: int, **_: Any) -> bytes:
        return self._mail[peer][:limit_bytes]


TOLD = {"job": b"a", "contract": b"b", "sub-labels": b"c"}


def compare(*told: dict[str, bytes]) -> None:
    """Let the owner and three trainers compare what they were told."""
    mail: dict[int, bytes] = {}
    for rank, one in enumerate([{}, *told]):
        world: Any = FakeWorld(rank, mail)
        check_told_alike(world, one, deadline_s=1.0)


def test_trainers_that_were_told_the_same_go_on() -> None:
    compare(TOLD, TOLD, TOLD)


@pytest.mark.parametrize(
    ("values", "says"),
    [({"contract": b"B"}, "contract"), ({"job": b"A", "sub-labels": b"C"}, "job, sub-labels")],
)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_trainer_that_was_told_otherwise_says_what(
    rank: int, values: dict[str, bytes], says: str
) -> None:
    told = [TOLD, TOLD, TOLD]
    told[rank - 1] = {**TOLD, **values}
    with pytest.raises(PeerError) as refused:
        compare(*told)
    line = refused.value.line()
    start = f"messages from rank 0 (control): rank {rank - 1} was told something else than rank "
    assert line.startswith(f"{start}{rank}: {says}.")

"""Statements and the order of the ledger: one spelling, no freedom, one place for each entry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forge import Forge, h
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clicooper_hpc.errors import EvidenceError, UsageError
from clicooper_hpc.provenance.canonical_json import encode_canonical_json
from clicooper_hpc.provenance.envelope import envelope_payload_digest, parse_envelope
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.merkle import merkle_root
from clicooper_hpc.provenance.proof_rules import mark_chain
from clicooper_hpc.provenance.statement_fields import Flow, TreeHead, decimal_field
from clicooper_hpc.provenance.statements import (
    DeliveryStatement,
    Enrolment,
    Handoff,
    RunStatement,
    StageProof,
    Ticket,
    parse_statement,
    statement_environment_digest,
)

RUN_ID = "0123456789abcdef0123456789abcdef"
ZEROS, ONES = "0" * 64, "1" * 64


def ticket(**changes: Any) -> Ticket:
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "segment": 2,
        "stage": 3,
        "first_step": 30,
        "last_step": 40,
        "nonce": ZEROS,
        "data_order": ONES,
        "samples": 640,
        "job_digest": ZEROS,
        "ledger": TreeHead(size=7, root=ONES),
    }
    return Ticket(**(values | changes))


@pytest.fixture(scope="module")
def payloads() -> list[bytes]:
    """Every statement of a run, one of each kind first to last."""
    return [parse_envelope(entry).payload for entry in Forge(2, 1).build().entries]


def edited(payload: bytes, *path: str | int, value: object) -> bytes:
    """Return the payload with one value replaced, in canonical form."""
    document: Any = json.loads(payload)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return encode_canonical_json(document)


def test_every_kind_comes_back_as_it_was(payloads: list[bytes]) -> None:
    found = [parse_statement(payload) for payload in payloads]
    assert {type(one) for one in found} == {
        RunStatement,
        Enrolment,
        Ticket,
        Handoff,
        StageProof,
        DeliveryStatement,
    }
    for payload, predicate in zip(payloads, found, strict=True):
        assert predicate.statement_bytes() == payload


def test_a_ticket_has_these_very_bytes() -> None:
    assert ticket().statement_bytes() == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"data_order":"%b",'
        b'"first_step":30,"job_digest":"%b","last_step":40,"ledger":{"root":"%b","size":7},'
        b'"nonce":"%b","run_id":"0123456789abcdef0123456789abcdef","samples":640,"segment":2,'
        b'"stage":3},"predicateType":"urn:clicooper:ticket:v2","subject":[{"digest":{"sha256":"%b"},'
        b'"name":"data-order"}]}'
    ) % tuple(one.encode() for one in (ONES, ZEROS, ONES, ZEROS, ONES))
    assert (
        envelope_payload_digest(ticket().statement_bytes()).hex
        == hashlib.sha256(b"clicooper/v1/payload\x00" + ticket().statement_bytes()).hexdigest()
        == "68e175fdc425a58f780ef0ed6e6f5a4f6beb982a7b50f8e33c4f6c742b107055"
    )


def test_every_field_is_in_the_statement(payloads: list[bytes]) -> None:
    for payload in payloads:
        predicate = json.loads(payload)["predicate"]
        for name in predicate:
            without = json.loads(payload)
            del without["predicate"][name]
            if name in ("mark", "handoff_out"):
                # The only fields that may be absent.
                parse_statement(encode_canonical_json(without))
            else:
                with pytest.raises(EvidenceError):
                    parse_statement(encode_canonical_json(without))


def test_unknown_fields_are_refused_at_every_level(payloads: list[bytes]) -> None:
    for payload in payloads:
        for path in ((), ("predicate",), ("subject", 0), ("subject", 0, "digest")):
            with pytest.raises(EvidenceError):
                parse_statement(edited(payload, *path, "extra", value="x"))
    with pytest.raises(EvidenceError, match="extra"):
        parse_statement(edited(ticket().statement_bytes(), "predicate", "ledger", "extra", value=1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "urn:clicooper:ticket:v1"),
        (("predicateType",), "urn:clicooper:ticket:v3"),
        (("predicateType",), "urn:clicooper:stage:v1"),
        (("predicateType",), 7),
        (("predicate",), []),
        (("subject",), []),
        (("subject", 0, "name"), "other"),
        (("subject", 0, "digest", "sha256"), ZEROS),
        (("predicate", "nonce"), "A" * 64),
        (("predicate", "nonce"), "0" * 63),
        (("predicate", "nonce"), "0" * 64 + "\n"),
        (("predicate", "run_id"), "0" * 31 + "\u0664"),
        (("predicate", "segment"), 0),
        (("predicate", "segment"), "2"),
        (("predicate", "segment"), True),
        (("predicate", "stage"), -1),
        (("predicate", "ledger"), ONES),
    ],
)
def test_what_a_ticket_does_not_say(path: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(EvidenceError):
        parse_statement(edited(ticket().statement_bytes(), *path, value=value))


def test_values_of_our_own_are_checked_when_they_are_stated() -> None:
    for bad in ({"stage": 1.0}, {"nonce": b"0" * 64}, {"first_step": 2**53}, {"nothing": 1}):
        with pytest.raises(ValidationError):
            ticket(**bad)


def test_text_that_moves_a_terminal_cursor_is_refused(payloads: list[bytes]) -> None:
    for text in ("\x1b[2J", "a\nb", "\u202e"):
        with pytest.raises(EvidenceError):
            parse_statement(edited(payloads[1], "predicate", "environment", "torch", value=text))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": 0},
        {"root": merkle_root([]).hex()},
        {"messages": 0, "root": merkle_root([]).hex()},
    ],
)
def test_a_flow_agrees_with_itself(change: dict[str, Any]) -> None:
    Flow(messages=0, bytes=0, root=merkle_root([]).hex())
    values: dict[str, Any] = {"messages": 2, "bytes": 10, "root": ONES}
    with pytest.raises(ValidationError, match="contradict"):
        Flow(**(values | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainers": (ONES, ONES)}, "used twice"),
        ({"owner": h("a")}, "used twice"),
        ({"trainers": (h("a"),)}, "one trainer"),
        ({"stage_bounds": (0, 20)}, "last step"),
        ({"stage_bounds": (0, 5, 5, 10)}, "no steps"),
        ({"stage_bounds": (10,)}, "last step"),
        ({"total_steps": 0, "stage_bounds": (0,)}, "last step"),
        ({"cuts": (3, 3)}, "ascend"),
        ({"coupling": "none"}, "one-way"),
        ({"created": "yesterday"}, "pattern"),
    ],
)
def test_a_run_statement_agrees_with_itself(change: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "run_id": RUN_ID,
        "created": "2026-01-02T03:04:05Z",
        "creator_version": "0.1.0",
        "job_digest": ONES,
        "card_digest": ONES,
        "owner": ZEROS,
        "trainers": (h("a"), h("b")),
        "cuts": (0, 3),
        "total_steps": 10,
        "stage_bounds": (0, 5, 10),
        "coupling": "backprop",
        "initial_weights": (ONES, ONES),
    }
    RunStatement(**values)
    with pytest.raises(ValidationError, match=message):
        RunStatement(**(values | change))


def test_a_statement_that_is_too_long_is_not_signed() -> None:
    with pytest.raises(UsageError, match="fewer training stages"):
        Enrolment(
            run_id=RUN_ID,
            run=ONES,
            segment=1,
            environment={f"variable {i}": "x" * 1024 for i in range(70)},
        ).statement_bytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500000"), (-1 / 3, "-0.333333"), (float("nan"), "nan"), (float("-inf"), "-inf")],
)
def test_decimals_are_results(value: float, text: str) -> None:
    assert decimal_field(value) == text
    delivery = DeliveryStatement(
        run_id=RUN_ID,
        segments=(),
        results={"loss": decimal_field(value)},
        tables=ONES,
        ledger=TreeHead(size=1, root=ONES),
    )
    assert delivery.results["loss"] == text


def test_environments_with_other_words_have_other_digests() -> None:
    one = statement_environment_digest({"device": "cpu", "torch": "2"})
    assert one == statement_environment_digest({"torch": "2", "device": "cpu"})
    assert one != statement_environment_digest({"torch": "2", "device": "cuda"})


@given(st.integers(1, 6), st.integers(1, 5))
def test_every_index_has_one_place(segments: int, stages: int) -> None:
    order = LedgerOrder(segments, stages)
    places = list(order.all_entries())
    assert len(places) == len(set(places)) == order.size == 2 + segments * (1 + 3 * stages)
    for index, place in enumerate(places):
        assert order.index_of(place.kind, place.stage, place.segment) == index
    assert order.checkpoint_sizes()[-1] == order.size
    for stage, size in enumerate(order.checkpoint_sizes()[:-2]):
        assert places[size] == EntryId("ticket", stage, 1)
        assert places[size - 1].kind == ("stage" if stage else "enrolment")


def test_the_order_of_two_segments_and_one_stage() -> None:
    assert [str(place) for place in LedgerOrder(2, 1).all_entries()] == [
        "run statement",
        "enrolment of segment 1",
        "enrolment of segment 2",
        "ticket of segment 1, stage 0",
        "ticket of segment 2, stage 0",
        "hand-off 0 of stage 0",
        "hand-off 1 of stage 0",
        "proof of segment 1, stage 0",
        "proof of segment 2, stage 0",
        "delivery",
    ]


@pytest.mark.parametrize(
    "place",
    [
        EntryId("ticket", 0, 0),
        EntryId("ticket", 0, 3),
        EntryId("ticket", 2, 1),
        EntryId("handoff", 0, 2),
        EntryId("stage", -1, 1),
        EntryId("enrolment", 1, 1),
        EntryId("run", 0, 1),
    ],
)
def test_there_are_no_other_places(place: EntryId) -> None:
    with pytest.raises(ValueError, match="2 segments, 2 stages"):
        LedgerOrder(2, 2).index_of(place.kind, place.stage, place.segment)


def test_the_chain_value_depends_on_every_part_and_its_place() -> None:
    names = ("ticket", "previous", "neighbour", "weights_in", "public_key")
    parts = {name: hashlib.sha256(name.encode()).digest() for name in names}
    value = mark_chain(**parts)
    assert value.hex == "56c9916adacb1de0cfb563d6171e934d954e94a86bbdffac58ca46438f55995c"
    content = b"clicooper/v1/mark-chain\x00" + b"".join(parts.values())
    assert value.value == hashlib.sha256(content).digest()
    for name in names:
        assert mark_chain(**(parts | {name: bytes(32)})) != value
        with pytest.raises(ValueError, match="32 bytes"):
            mark_chain(**(parts | {name: b"short"}))


def test_verification_needs_neither_mpi_nor_torch() -> None:
    code = (
        "import sys, clicooper_hpc.verification.run_checks\n"
        "import clicooper_hpc.verification.marks.claim\n"
        "print(sorted({'torch', 'mpi4py', 'h5py'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.strip() == "[]"

"""The ledger and the mark of docs/provenance-vectors.json, recomputed from the page's rules."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from vector_ledger import MASTER, SHAPE, marked
from vector_rules import (
    ENTRIES,
    LEDGER,
    MARK,
    STATEMENTS,
    VECTORS,
    below,
    canonical,
    hkdf,
    leaf,
    sha256,
    stream,
    tagged,
    tensors_digest,
    tree,
)

from clicooper_hpc.provenance.marks.mark_keys import open_mark_key
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.marks.claim import read_mark_claim
from clicooper_hpc.verification.run_checks import CHECKS, run_checks

# --- The ledger ----------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=[one["kind"] for one in ENTRIES])
def test_every_entry(entry: dict[str, Any]) -> None:
    payload = entry["payload"].encode()
    statement = STATEMENTS[entry["kind"]]
    assert canonical(statement) == payload
    assert sorted(statement) == ["_type", "predicate", "predicateType", "subject"]
    version = 2 if entry["kind"] in ("ticket", "stage") else 1
    assert statement["predicateType"] == f"urn:clicooper:{entry['kind']}:v{version}"
    kind = b"application/vnd.in-toto+json"
    pae = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    assert pae.decode() == entry["pae"]
    signers = {"handoff": ["owner", "trainer"], "enrolment": ["trainer"], "stage": ["trainer"]}
    signatures = []
    names = signers.get(entry["kind"], ["owner"])
    for name, signature in zip(names, entry["signatures"], strict=True):
        identity = VECTORS["identities"][name]
        secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(identity["seed"]))
        assert secret.sign(pae).hex() == signature
        encoded = base64.b64encode(bytes.fromhex(signature)).decode()
        signatures.append({"keyid": identity["keyid"], "sig": encoded})
    envelope = canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": kind.decode(),
            "signatures": signatures,
        }
    )
    assert envelope.decode() == entry["envelope"]
    assert tagged("envelope", envelope) == entry["digest"]
    assert tagged("payload", payload) == entry["payload_digest"]
    assert leaf(envelope).hex() == entry["leaf"]


def test_roots_and_checkpoints() -> None:
    leaves = [bytes.fromhex(one["leaf"]) for one in ENTRIES]
    assert [tree(leaves[: size + 1]).hex() for size in range(6)] == [one["root"] for one in ENTRIES]
    for size, note in zip((2, 5, 6), LEDGER["checkpoints"], strict=True):
        text, lines = note.split("\n\n")
        root = base64.b64encode(tree(leaves[:size])).decode()
        assert text == f"clicooper-hpc/{LEDGER['run_id']}\n{size}\n{root}"
        signers = {"owner": "owner"} | ({"trainer-1": "trainer"} if size == 6 else {})
        found = lines.splitlines()
        assert len(found) == len(signers)
        for line, (name, identity) in zip(found, signers.items(), strict=True):
            assert line.startswith(f"\u2014 {name} ")
            value = base64.b64decode(line.rsplit(" ", 1)[1])
            key = bytes.fromhex(VECTORS["identities"][identity]["public"])
            assert value[:4] == sha256(name.encode(), b"\n\x01", key)[:4]
            Ed25519PublicKey.from_public_bytes(key).verify(value[4:], f"{text}\n".encode())


def test_what_the_statements_refer_to() -> None:
    digest = {one["kind"]: one["digest"] for one in ENTRIES}
    payload = {one["kind"]: one["payload_digest"] for one in ENTRIES}
    run, enrolment, ticket, handoff, proof, delivery = (
        one["predicate"] for one in STATEMENTS.values()
    )
    assert run["job_digest"] == tagged("job", LEDGER["job"].encode()) == ticket["job_digest"]
    assert run["card_digest"] == tagged("card", LEDGER["card"].encode())
    assert enrolment["run"] == digest["run"]
    assert ticket["ledger"] == {"size": 2, "root": ENTRIES[1]["root"]}
    assert ticket["data_order"] == VECTORS["data_order"]["digest"]
    assert handoff["forward"] == VECTORS["messages"]["flow"]
    assert proof["ticket"] == digest["ticket"]
    assert proof["samples"] == ticket["samples"] == VECTORS["data_order"]["samples"]
    assert proof["previous"] == digest["enrolment"]
    assert proof["upstream"] == proof["handoff_in"] == payload["handoff"]
    assert "handoff_out" not in proof
    assert proof["environment"] == tagged("environment", canonical(enrolment["environment"]))
    assert proof["tables"] == VECTORS["rows"]["digest"]
    assert delivery["ledger"] == {"size": 5, "root": ENTRIES[4]["root"]}
    assert delivery["segments"] == [{"segment": 1, "weights": proof["weights_out"]}]
    assert delivery["tables"] == VECTORS["index"]["owner_tables"]


def evidence() -> Evidence:
    run = STATEMENTS["run"]["predicate"]
    proof = STATEMENTS["stage"]["predicate"]
    flow = VECTORS["messages"]["flow"]
    return Evidence(
        entries=[one["envelope"].encode() for one in ENTRIES],
        checkpoints=LEDGER["checkpoints"],
        status="complete",
        run_id=LEDGER["run_id"],
        job_text=LEDGER["job"],
        job_digest=run["job_digest"],
        card_digest=run["card_digest"],
        segments=[proof["weights_out"]],
        checkpoint_roots={(0, 1): (proof["weights_out"], proof["optimizer_out"])},
        tables={(1, 0): proof["tables"], (0, 1): VECTORS["index"]["owner_tables"]},
        trainer_heads={1: [(2, ENTRIES[1]["root"]), (5, ENTRIES[4]["root"])]},
        trainer_notes={1: LEDGER["checkpoints"][:2]},
        messages={1: {(0, "forward_in"): (flow["messages"], flow["root"])}},
    )


def test_the_ledger_verifies() -> None:
    results = run_checks(evidence())
    passed = {one.number: one.passed for one in results}
    # No keys are pinned, and there are no files.
    assert passed == {**dict.fromkeys(range(1, len(CHECKS) + 1), True), 17: None, 19: None}


# --- The mark ------------------------------------------------------------------------------------


def mark_leaf(stage: int, key: bytes) -> bytes:
    content = bytes.fromhex(MARK["run_id"]) + struct.pack(">II", MARK["segment"], stage) + key
    return leaf(bytes.fromhex(tagged("mark-leaf", content)))


def stage_key(stage: int) -> bytes:
    info = b"clicooper/v1/mark-key\x00" + struct.pack(">I", stage)
    return hkdf(bytes.fromhex(MARK["master"]), info)


def test_mark_keys() -> None:
    key = stage_key(0)
    assert key.hex() == MARK["key"]
    content = bytes.fromhex(MARK["run_id"]) + struct.pack(">II", 1, 0) + key
    assert tagged("mark-leaf", content) == MARK["leaf"]
    # The tree hashes the leaf once more: its entries are the tagged digests.
    assert leaf(bytes.fromhex(MARK["leaf"])).hex() == MARK["root"]
    five = MARK["five_stages"]
    leaves = [mark_leaf(stage, stage_key(stage)) for stage in range(5)]
    assert tree(leaves).hex() == five["root"]
    assert stage_key(2).hex() == five["key"]
    assert five["proof"] == [leaves[3].hex(), tree(leaves[:2]).hex(), leaves[4].hex()]


def test_chain_value_and_seed() -> None:
    chain = VECTORS["chain"]
    order = ("ticket", "previous", "neighbour", "weights_in", "public_key")
    assert tagged("mark-chain", *(bytes.fromhex(chain[name]) for name in order)) == chain["value"]
    assert STATEMENTS["stage"]["predicate"]["mark"]["chain"] == chain["value"]
    content = bytes.fromhex(MARK["key"] + chain["value"])
    assert hashlib.sha512(b"clicooper/v1/mark-seed\x00" + content).hexdigest() == MARK["seed"]


def carriers() -> tuple[list[int], list[int]]:
    """Return the numbers of all carriers and their signs, bit by bit."""
    seed, plan = bytes.fromhex(MARK["seed"]), MARK["plan"]
    rows, columns = plan["shapes"]["0.weight"]
    count = plan["bits"] * plan["weights_per_bit"]
    read = stream(seed[:32])
    found: dict[int, None] = {}
    while len(found) < count:
        found.setdefault(below(rows * ((columns + 1) // 2), read))
    coins = stream(seed[32:])((count + 7) // 8)
    return list(found), [1 if coins[k // 8] >> (k % 8) & 1 else -1 for k in range(count)]


def element(number: int) -> int:
    """Return which element of the 64 x 64 tensor a carrier number means: even columns only."""
    row, column = divmod(number, 32)
    return 64 * row + 2 * column


def test_carriers() -> None:
    numbers, signs = carriers()
    assert numbers[:8] == MARK["first_carriers"]
    assert signs[:8] == MARK["first_signs"]
    assert sha256(struct.pack(f"<{len(numbers)}q", *numbers)).hex() == MARK["carriers_sha256"]
    assert sha256(struct.pack(f"{len(signs)}b", *signs)).hex() == MARK["signs_sha256"]


@pytest.mark.parametrize("which", ["marked", "unmarked"])
def test_reading(which: str) -> None:
    numbers, signs = carriers()
    weights = [(k * 40503 % 65536 - 32768) / 32768 for k in range(64 * 64)]
    if which == "marked":
        for number, sign in zip(numbers, signs, strict=True):
            weights[element(number)] = sign * abs(weights[element(number)])
    content = struct.pack("<4096f", *weights)
    digest = tensors_digest({"0.weight": ("F32", [64, 64], content)})
    claimed = STATEMENTS["stage"]["predicate"]["weights_out" if which == "marked" else "weights_in"]
    assert digest == MARK[which]["weights"] == claimed
    sizes = [
        math.sqrt(math.fsum(weights[64 * row + column] ** 2 for column in range(1, 64, 2)) / 32)
        for row in range(64)
    ]
    values = [
        sign * weights[element(number)] / sizes[number // 32]
        for number, sign in zip(numbers, signs, strict=True)
    ]
    each = MARK["plan"]["weights_per_bit"]
    bits = [math.fsum(values[start : start + each]) for start in range(0, len(values), each)]
    statistic = math.fsum(values) / math.sqrt(math.fsum(value**2 for value in values))
    errors = sum(bit <= 0 for bit in bits)
    tail = sum(math.comb(len(bits), wrong) for wrong in range(errors + 1)) / 2 ** len(bits)
    log2_p = min(math.log2(tail), -(max(statistic, 0.0) ** 2) / 2 / math.log(2)) + 1
    assert errors == MARK[which]["errors"]
    assert statistic == pytest.approx(float(MARK[which]["statistic"]), abs=1e-6)
    assert min(log2_p, 0) == pytest.approx(float(MARK[which]["log2_p"]), abs=1e-3)


def test_the_claim_is_read_from_the_ledger() -> None:
    opening = open_mark_key(LEDGER["run_id"], 1, MASTER, 1, 0)
    weights = {"0.weight": marked(bytes.fromhex(MARK["seed"])).reshape(SHAPE)}
    found = read_mark_claim(evidence(), 1, opening, weights)
    assert found.keyid == VECTORS["identities"]["trainer"]["keyid"]
    assert found.reading.errors == 0
    assert f"{found.reading.statistic:.6f}" == MARK["marked"]["statistic"]

"""The published test vectors, computed a second time by code that shares nothing with the package.

Every rule of docs/provenance.md is written down here again in a few lines, from the page and not
from the modules. What both say must be what the file says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from make_vectors import FILE, PAGE, build, fill, to_text
from vector_ledger import MASTER, SHAPE, marked

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical import parse
from clicooper_hpc.provenance.evidence import Evidence
from clicooper_hpc.provenance.marks.keys import open_mark
from clicooper_hpc.provenance.merkle import verify_consistency, verify_inclusion
from clicooper_hpc.provenance.reading import read_claim
from clicooper_hpc.provenance.verify import CHECKS, verify

PACKAGE = Path(__file__).parents[2] / "clicooper_hpc"
VECTORS: dict[str, Any] = json.loads(FILE.read_text(encoding="ascii"))
LEDGER, MARK = VECTORS["ledger"], VECTORS["mark"]
ENTRIES: list[dict[str, Any]] = LEDGER["entries"]
STATEMENTS = {one["kind"]: json.loads(one["payload"]) for one in ENTRIES}


# --- The rules, once more ------------------------------------------------------------------------


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(name: str, *parts: bytes) -> str:
    return sha256(f"clicooper/v1/{name}".encode(), b"\x00", *parts).hex()


def canonical(value: object) -> bytes:
    # Within the subset (ASCII keys, no floats) this is RFC 8785.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    middle = 1
    while 2 * middle < len(leaves):
        middle *= 2
    return sha256(b"\x01", tree(leaves[:middle]), tree(leaves[middle:]))


def leaf(content: bytes) -> bytes:
    return sha256(b"\x00", content)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, no salt, 32 bytes."""
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def stream(key: bytes) -> Callable[[int], bytes]:
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda count: encryptor.update(bytes(count))


def below(limit: int, read: Callable[[int], bytes]) -> int:
    while True:
        word = int.from_bytes(read(8), "little")
        if word < 2**64 - 2**64 % limit:
            return word % limit


def tensors_digest(tensors: dict[str, tuple[str, list[int], bytes]]) -> str:
    leaves = []
    for name in sorted(tensors):
        dtype, shape, content = tensors[name]
        pieces = [content[at : at + 2**20] for at in range(0, len(content), 2**20)]
        chunks = tree([leaf(piece) for piece in pieces]).hex()
        value = {"chunks": chunks, "dtype": dtype, "name": name, "shape": shape}
        leaves.append(leaf(canonical(value)))
    return tagged("tensors", struct.pack(">Q", len(leaves)), tree(leaves))


def safetensors(content: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        name: (one["dtype"], one["shape"], data[slice(*one["data_offsets"])])
        for name, one in header.items()
    }


# --- The file and the page -----------------------------------------------------------------------


def test_the_package_makes_these_vectors() -> None:
    assert to_text(build()) == FILE.read_text(encoding="ascii"), "run make_vectors.py"


def test_the_page_shows_these_bytes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- vector: ") >= 8
    assert fill(page, VECTORS) == page, "run make_vectors.py"


def test_the_page_lists_every_tag_of_proofs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sources = [
        *(PACKAGE / "provenance").rglob("*.py"),
        *(PACKAGE / "audit").glob("*.py"),
        *(PACKAGE / "verbs").glob("*.py"),
        PACKAGE / "runstore" / "rows_digest.py",
        PACKAGE / "runstore" / "seal.py",
        PACKAGE / "pipeline" / "message_log.py",
        PACKAGE / "pipeline" / "data_order.py",
    ]
    tags = {
        tag
        for source in sources
        for tag in re.findall(r"clicooper/v1/([a-z-]+)", source.read_text(encoding="utf-8"))
    }
    assert len(tags) >= 17
    assert [tag for tag in sorted(tags) if f"`{tag}`" not in page] == []


# --- One rule after another ----------------------------------------------------------------------


def test_canonical_json() -> None:
    for one in VECTORS["canonical"]["accepted"]:
        assert canonical(one["value"]).hex() == one["hex"]
        assert parse(bytes.fromhex(one["hex"])) == one["value"]
    for one in VECTORS["canonical"]["refused"]:
        with pytest.raises(EvidenceError):
            parse(bytes.fromhex(one["hex"]))


def test_tagged_texts() -> None:
    for tag, one in VECTORS["tagged"].items():
        assert sha256(tag.encode(), b"\x00", one["text"].encode()).hex() == one["digest"]


def test_identities() -> None:
    for one in VECTORS["identities"].values():
        secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(one["seed"]))
        assert secret.public_key().public_bytes_raw().hex() == one["public"]
        spki = bytes.fromhex("302a300506032b6570032100" + one["public"])
        assert sha256(spki).hex() == one["keyid"]


def test_merkle_trees() -> None:
    vector = VECTORS["merkle"]
    leaves = [leaf(bytes.fromhex(entry)) for entry in vector["entries"]]
    roots = [tree(leaves[:size]) for size in range(len(leaves) + 1)]
    assert [one.hex() for one in leaves] == vector["leaves"]
    assert [one.hex() for one in roots] == vector["roots"]
    # The root that the tests of Certificate Transparency give for this tree.
    assert vector["roots"][-1] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    for one in vector["inclusion"]:
        proof = [bytes.fromhex(node) for node in one["proof"]]
        verify_inclusion(leaves[one["index"]], one["index"], one["size"], proof, roots[one["size"]])
    for one in vector["consistency"]:
        proof = [bytes.fromhex(node) for node in one["proof"]]
        verify_consistency(one["old"], roots[one["old"]], one["new"], roots[one["new"]], proof)


def test_an_inclusion_proof_by_hand() -> None:
    vector = VECTORS["merkle"]
    leaves = [bytes.fromhex(one) for one in vector["leaves"]]
    proof = next(one["proof"] for one in vector["inclusion"] if one["index"] == 5)
    assert proof == [leaves[4].hex(), tree(leaves[6:8]).hex(), tree(leaves[0:4]).hex()]


def test_tensor_digests() -> None:
    vector = VECTORS["tensors"]
    tensors = safetensors(bytes.fromhex(vector["file"]))
    for prefix, digest in vector["digests"].items():
        chosen = {
            name.removeprefix(prefix): one
            for name, one in tensors.items()
            if name.startswith(prefix)
        }
        assert tensors_digest(chosen) == digest
    two = vector["two_chunks"]
    zeros = bytes(math.prod(two["shape"]))
    assert len(zeros) == 2**20 + 1
    assert tensors_digest({two["name"]: (two["dtype"], two["shape"], zeros)}) == two["digest"]


def test_messages() -> None:
    vector = VECTORS["messages"]
    size = 0
    digests = []
    for number, one in enumerate(vector["messages"]):
        raw = bytes.fromhex(one["bytes"])
        fields = struct.unpack("<4sBBBBqi6IQQ4s", raw[:64])
        assert fields[:7] == (b"CCHM", 1, 3, 1, 2, 7, number)
        rows, columns = fields[7:9]
        assert fields[9:] == (0, 0, 0, 0, 4 * rows * columns, 0, bytes(4))
        assert len(raw) == 64 + 4 * rows * columns
        assert tagged("message", raw) == one["digest"]
        digests.append(bytes.fromhex(one["digest"]))
        size += len(raw) - 64
    root = tree([leaf(digest) for digest in digests]).hex()
    assert vector["flow"] == {"messages": 2, "bytes": size, "root": root}
    assert vector["no_messages"] == {"messages": 0, "bytes": 0, "root": sha256().hex()}


def test_rows() -> None:
    vector = VECTORS["rows"]
    text = ""
    for name, dtype in vector["columns"]:
        code, letter = {"int64": ("<i8", "q"), "float64": ("<f8", "d")}[dtype]
        values = vector["values"][name]
        column = sha256(struct.pack(f"<{len(values)}{letter}", *values)).hex()
        text += f"{vector['table']}\t{name}\t{code}\t{len(values)}\t{column}\n"
    assert tagged("rows", text.encode()) == vector["digest"]


def test_data_order() -> None:
    vector = VECTORS["data_order"]
    content = b""
    for one in vector["steps"]:
        ids = one["ids"]
        flat = [sample for row in ids for sample in row]
        content += struct.pack("<3q", one["step"], len(ids), len(ids[0]))
        content += struct.pack(f"<{len(flat)}q", *flat)
        content += struct.pack(f"<{len(ids)}q", *one["sub_labels"])
    assert tagged("stage-order", content) == vector["digest"]


def test_the_index_and_the_owners_tables() -> None:
    vector = VECTORS["index"]
    # Floats as Python prints them, everything else as usual.
    text = json.dumps(json.loads(vector["text"]), sort_keys=True, separators=(",", ":"))
    assert text == vector["text"]
    assert tagged("index", text.encode()) == vector["digest"]
    both = bytes.fromhex(vector["rows"] + vector["digest"])
    assert tagged("owner-tables", both) == vector["owner_tables"]


def test_the_challenge() -> None:
    vector = VECTORS["challenge"]
    stages = vector["stages"]
    info = b"clicooper/v1/audit-challenge\x00" + bytes.fromhex(vector["root"])
    read = stream(hkdf(bytes.fromhex(vector["secret"]), info + struct.pack("<Q", stages)))
    order = list(range(stages))
    for place in range(stages):
        chosen = place + below(stages - place, read)
        order[place], order[chosen] = order[chosen], order[place]
    assert order == vector["stages_drawn"]


# --- The ledger ----------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES, ids=[one["kind"] for one in ENTRIES])
def test_every_entry(entry: dict[str, Any]) -> None:
    payload = entry["payload"].encode()
    statement = STATEMENTS[entry["kind"]]
    assert canonical(statement) == payload
    assert sorted(statement) == ["_type", "predicate", "predicateType", "subject"]
    assert statement["predicateType"] == f"urn:clicooper:{entry['kind']}:v1"
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
    return Evidence(
        entries=[one["envelope"].encode() for one in ENTRIES],
        checkpoints=LEDGER["checkpoints"],
        run_id=LEDGER["run_id"],
        job_text=LEDGER["job"],
        job_digest=run["job_digest"],
        card_digest=run["card_digest"],
        segments=[proof["weights_out"]],
        checkpoint_roots={(0, 1): (proof["weights_out"], proof["optimizer_out"])},
        tables={(1, 0): proof["tables"], (0, 1): VECTORS["index"]["owner_tables"]},
        trainer_heads={1: [(2, ENTRIES[1]["root"]), (5, ENTRIES[4]["root"])]},
    )


def test_the_ledger_verifies() -> None:
    results = verify(evidence())
    assert [one.passed for one in results] == [True] * (len(CHECKS) - 1) + [None], results


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
    opening = open_mark(LEDGER["run_id"], 1, MASTER, 1, 0)
    weights = {"0.weight": marked(bytes.fromhex(MARK["seed"])).reshape(SHAPE)}
    found = read_claim(evidence(), 1, opening, weights)
    assert found.keyid == VECTORS["identities"]["trainer"]["keyid"]
    assert found.reading.errors == 0
    assert f"{found.reading.statistic:.6f}" == MARK["marked"]["statistic"]

"""The published test vectors, computed a second time by code that shares nothing with the package.

Every rule of docs/provenance.md is written down here again in a few lines, from the page and not
from the modules. What both say must be what the file says.
"""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from make_vectors import FILE, PAGE, build, fill, to_text
from vector_rules import (
    VECTORS,
    below,
    canonical,
    hkdf,
    leaf,
    safetensors,
    sha256,
    stream,
    tagged,
    tensors_digest,
    tree,
)

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.canonical import parse
from clicooper_hpc.provenance.merkle import verify_consistency, verify_inclusion

PACKAGE = Path(__file__).parents[2] / "clicooper_hpc"


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
        *(PACKAGE / "verification").glob("*.py"),
        *(PACKAGE / "training").glob("*.py"),
        PACKAGE / "runstore" / "rows_digest.py",
        PACKAGE / "runstore" / "seal.py",
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
        assert blake3(b"clicooper/v1/message\x00" + raw).hexdigest() == one["digest"]
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

"""The formats that stand on their own, each as one test vector: inputs, bytes, digest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clicooper_hpc.audit.challenge import draw_challenge
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.provenance.canonical_json import Json, encode_canonical_json
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.provenance.merkle import MerkleTree
from clicooper_hpc.provenance.statements import statement_environment_digest
from clicooper_hpc.provenance.tensor_digest import CHUNK_BYTES, digest_tensors
from clicooper_hpc.runstore.signed_digests import IndexContent, RowsDigest
from clicooper_hpc.runstore.tables.schema import TRAINING
from clicooper_hpc.training.events import TrainStep
from clicooper_hpc.training.learning_rate import LearningRateSchedule
from clicooper_hpc.training.message_digests import ChannelRecord, message_digest
from clicooper_hpc.training.run_plan import RunPlan, plan_stage_orders
from clicooper_hpc.transport.header import Header, pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.wire_dtype import DType

__all__ = ["CARD", "ENVIRONMENT", "IDENTITIES", "JOB", "parts", "stored"]

Vector = dict[str, Any]

JOB: Final = '{"training":{"epochs":1}}'
CARD: Final = "guarantee  epsilon 8, delta 1e-05 per sample\n"
ENVIRONMENT: Final = {"device": "cpu", "torch": "2.9.1"}

#: Secret keys of RFC 8032, section 7.1, tests 1 and 2: published, so good for examples only.
_SEEDS: Final = {
    "owner": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "trainer": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
}
IDENTITIES: Final = {
    name: Identity(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    for name, seed in _SEEDS.items()
}

_ACCEPTED: Final[Sequence[Json]] = (
    {"b": 1, "a": [True, {}], "B": -(2**53) + 1, "": ""},
    ["\u00e9\u20ac\U0001d54f", '"\\/\b\f\n\r\t\x00\x1f\x7f'],
    {"loss": "0.693147", "steps": 40},
)
_REFUSED: Final = (
    ('{"a": 1}', "a space"),
    ('{"b":1,"a":1}', "keys not in order"),
    ('{"a":1,"a":1}', "a key twice"),
    ('{"a":0.5}', "a floating-point number"),
    ('{"a":null}', "null"),
    ('{"a":9007199254740992}', "an integer beyond 2**53 - 1"),
    ('{"\u00e9":1}', "a key that is not ASCII"),
    ('["e\u0301"]', "a string not in form NFC"),
    ('["\\u00e9"]', "an escape that is not needed"),
    ("[1]\n", "a byte behind the end"),
    ("[" * 17 + "]" * 17, "nested deeper than 16 levels"),
)

#: The entries of the test tree of Certificate Transparency.
_ENTRIES: Final = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)


def parts() -> dict[str, Vector]:
    """Return all vectors of this module by name."""
    return {
        "canonical": _canonical(),
        "challenge": _challenge(),
        "data_order": _data_order(),
        "identities": _identities(),
        "index": _index(),
        "merkle": _merkle(),
        "messages": _messages(),
        "rows": _rows(),
        "tagged": _tagged(),
        "tensors": _tensors(),
    }


def stored(tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> bytes:
    """Return a safetensors file of (dtype, shape, bytes) by name."""
    header: dict[str, object] = {}
    end = 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [end, end + len(content)],
        }
        end += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(one[2] for one in tensors.values())


def _canonical() -> Vector:
    return {
        "accepted": [
            {"value": value, "hex": encode_canonical_json(value).hex()} for value in _ACCEPTED
        ],
        "refused": [{"hex": text.encode().hex(), "why": why} for text, why in _REFUSED],
    }


def _identities() -> Vector:
    return {
        name: {
            "seed": _SEEDS[name],
            "public": identity.public.raw.hex(),
            "keyid": identity.keyid,
        }
        for name, identity in IDENTITIES.items()
    }


def _tagged() -> Vector:
    return {
        "clicooper/v1/card": {
            "text": CARD,
            "digest": digest_bytes("clicooper/v1/card", CARD.encode()).hex,
        },
        "clicooper/v1/environment": {
            "text": encode_canonical_json(dict(ENVIRONMENT)).decode(),
            "digest": statement_environment_digest(ENVIRONMENT).hex,
        },
        "clicooper/v1/job": {
            "text": JOB,
            "digest": digest_bytes("clicooper/v1/job", JOB.encode()).hex,
        },
    }


def _merkle() -> Vector:
    tree = MerkleTree()
    for entry in _ENTRIES:
        tree.append(bytes.fromhex(entry))
    count = len(_ENTRIES)
    return {
        "entries": list(_ENTRIES),
        "leaves": [leaf.hex() for leaf in tree.leaves],
        "roots": [tree.root_at(size).hex() for size in range(count + 1)],
        "inclusion": [
            {"index": index, "size": size, "proof": _hex(tree.inclusion_proof(index, size))}
            for index, size in ((0, 1), (0, 8), (5, 8), (2, 3), (4, 7))
        ],
        "consistency": [
            {"old": old, "new": count, "proof": _hex(tree.consistency_proof(old))}
            for old in (1, 3, 4, 6, 8)
        ],
    }


def _tensors() -> Vector:
    small = stored(
        {
            "training/optimizer/0000/momentum_buffer": (
                "F32",
                (2,),
                np.array([0.5, -2], "<f4").tobytes(),
            ),
            "weights/bias": ("BF16", (2,), bytes.fromhex("803f00c0")),
            "weights/weight": ("F32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
        }
    )
    # Two chunks, the second of one byte.
    large = stored({"zeros": ("U8", (CHUNK_BYTES + 1,), bytes(CHUNK_BYTES + 1))})
    prefixes = ("", "weights/", "training/", "nothing/")
    return {
        "file": small.hex(),
        "digests": {prefix: digest_tensors(small, prefix=prefix).hex for prefix in prefixes},
        "two_chunks": {
            "name": "zeros",
            "dtype": "U8",
            "shape": [CHUNK_BYTES + 1],
            "digest": digest_tensors(large).hex,
        },
    }


def _messages() -> Vector:
    record = ChannelRecord()
    sent = []
    for micro_batch, values in enumerate(([0.0, 1, 2, 3, 4, 5], [-1.0, 0.5])):
        payload = np.array(values, "<f4").tobytes()
        header = Header(Kind.RELEASE, DType.FLOAT32, (len(values) // 2, 2), 7, micro_batch)
        raw = pack_header(header) + payload
        record.digests.append(message_digest(raw))
        record.size += len(payload)
        sent.append({"bytes": raw.hex(), "digest": record.digests[-1].hex()})
    return {
        "messages": sent,
        "flow": record.flow().model_dump(),
        "no_messages": ChannelRecord().flow().model_dump(),
    }


def _rows() -> Vector:
    values: dict[str, list[float]] = {
        "step": [0, 1],
        "loss": [2.5, 0.1],
        "learning_rate": [0.05, 0.025],
        "gradient_norm": [1.0, 1e-300],
        "sub_label_accuracy": [0.0, 1.0],
    }
    arrays = {
        column.name: np.array(values[column.name], column.dtype) for column in TRAINING.columns
    }
    running = RowsDigest([TRAINING])
    running.add(TRAINING, arrays)
    return {
        "table": TRAINING.name,
        "columns": [[column.name, column.dtype] for column in TRAINING.columns],
        "values": values,
        "digest": running.digest().hex,
    }


def _data_order() -> Vector:
    plan = RunPlan(
        seed=1,
        epochs=1,
        batch_size=2,
        average_rows=2,
        sub_labels=np.array([0, 1, 0, 1, 0, 1, 0], np.int32),
        validation_rows=0,
        evaluate_every=0,
        cached=True,
        segments=1,
        micro_batches=1,
        schedule="1f1b",
        coupling="backprop",
        rates=LearningRateSchedule(0.1),
        stages=1,
    )
    steps = [event for event in plan.planned_events() if isinstance(event, TrainStep)]
    order = next(plan_stage_orders(plan))
    return {
        "steps": [
            {
                "step": one.step,
                "ids": one.batch.ids.tolist(),
                "sub_labels": one.batch.sub_labels.tolist(),
            }
            for one in steps
        ],
        "samples": order.samples,
        "digest": order.digest.hex,
    }


def _index() -> Vector:
    content = IndexContent(
        attrs={"run_id": "00112233445566778899aabbccddeeff", "num_ranks": 2, "status": "complete"},
        hosts=["node-1", "node-1"],
        cuts=[0],
        schedule="1: F0 B0",
        layer_names=["Linear"],
        privacy={"epsilon": 8.0},
        promised=CARD,
        card=CARD,
        results={"clean_accuracy": 0.875},
        scales=[[0, 1], [0], [1]],
    )
    rows = bytes(range(32))
    tables = digest_bytes("clicooper/v1/owner-tables", rows + content.digest().value)
    return {
        "text": '{"attrs":{"num_ranks":2,"run_id":"00112233445566778899aabbccddeeff"},'
        '"card":"guarantee  epsilon 8, delta 1e-05 per sample\\n","cuts":[0],'
        '"hosts":["node-1","node-1"],"layer_names":["Linear"],"privacy":{"epsilon":8.0},'
        '"promised":"guarantee  epsilon 8, delta 1e-05 per sample\\n",'
        '"results":{"clean_accuracy":0.875},"scales":[[0,1],[0],[1]],"schedule":"1: F0 B0"}',
        "digest": content.digest().hex,
        "rows": rows.hex(),
        "owner_tables": tables.hex,
    }


def _challenge() -> Vector:
    secret, root = bytes(range(32)), bytes(range(32, 64))
    return {
        "secret": secret.hex(),
        "root": root.hex(),
        "stages": 10,
        "stages_drawn": draw_challenge(secret, root, 10, 10),
    }


def _hex(hashes: Sequence[bytes]) -> list[str]:
    return [one.hex() for one in hashes]

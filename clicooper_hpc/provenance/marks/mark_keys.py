"""Keys of marks: all fixed before the run by one Merkle root, opened one stage at a time.

::

    stage key    HKDF-SHA256(master, info = "clicooper/v1/mark-key" || 0x00 || u32 stage)
    leaf         SHA256("clicooper/v1/mark-leaf" || 0x00
                        || run id || u32 segment || u32 stage || key)
    mark root    RFC 9162 root over the leaves of all stages: signed at enrolment
    seed         SHA512("clicooper/v1/mark-seed" || 0x00 || key || chain value)

Integers are big-endian, the run id is its 16 bytes. The key alone would let a trainer choose a key
that fits given weights; the committed leaf leaves nothing to choose, and the chain value (fixed by
the ledger before the stage starts) dates the mark. A signature over the chain value could not do
this: Ed25519 lets a dishonest signer make many signatures of one message and pick.

Showing a stage key lets others erase that one mark. It tells nothing about the other stages.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.merkle import (
    merkle_inclusion_proof,
    merkle_leaf_hash,
    merkle_root,
    verify_merkle_inclusion,
)

__all__ = [
    "MarkOpening",
    "mark_key_leaf",
    "mark_key_root",
    "mark_key_seed",
    "open_mark_key",
    "stage_mark_key",
    "verify_mark_key",
]

_BYTES = 32
_RUN_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class MarkOpening:
    """The key of one stage and the proof that it was committed to before the run.

    Parameters
    ----------
    key
        Stage key, 32 bytes. Secret until the opening is shown.
    index
        Stage.
    proof
        RFC 9162 inclusion proof of the leaf.
    """

    key: bytes = field(repr=False)
    index: int
    proof: tuple[bytes, ...]


def stage_mark_key(master: bytes, stage: int) -> bytes:
    """Return the 32-byte mark key of one stage from the trainer's 32-byte mark secret."""
    _check_key_length("the mark secret", master)
    info = b"clicooper/v1/mark-key\x00" + _u32(stage)
    return HKDF(SHA256(), _BYTES, salt=None, info=info).derive(master)


def mark_key_leaf(run_id: str, segment: int, stage: int, key: bytes) -> bytes:
    """Return the 32 bytes that commit to a stage key: one entry of the mark tree."""
    _check_key_length("a stage key", key)
    content = _run_bytes(run_id) + _u32(segment) + _u32(stage) + key
    return digest_bytes("clicooper/v1/mark-leaf", content).value


def mark_key_root(run_id: str, segment: int, master: bytes, stages: int) -> bytes:
    """Return the root (32 bytes) over the leaves of all stages."""
    return merkle_root(_mark_key_leaves(run_id, segment, master, stages))


def open_mark_key(run_id: str, segment: int, master: bytes, stages: int, stage: int) -> MarkOpening:
    """Return the key of ``stage`` with its inclusion proof."""
    leaves = _mark_key_leaves(run_id, segment, master, stages)
    return MarkOpening(
        stage_mark_key(master, stage), stage, tuple(merkle_inclusion_proof(leaves, stage))
    )


def verify_mark_key(
    opening: MarkOpening, run_id: str, segment: int, stages: int, root: bytes
) -> None:
    """Check that the opened key stands in the enrolled tree at its stage.

    Raises
    ------
    EvidenceError
        It does not: another key, stage, segment or run.
    """
    try:
        leaf = merkle_leaf_hash(mark_key_leaf(run_id, segment, opening.index, opening.key))
        verify_merkle_inclusion(leaf, opening.index, stages, opening.proof, root)
    except (EvidenceError, ValueError, struct.error) as error:
        raise EvidenceError(
            f"the opened key of stage {opening.index} is not the one enrolled "
            f"for segment {segment}",
            where="mark opening",
            remedy="A mark can only be claimed with the key fixed at enrolment.",
        ) from error


def mark_key_seed(key: bytes, chain: bytes) -> bytes:
    """Return the 64 bytes that decide carriers and signs of one mark.

    Parameters
    ----------
    key
        Stage key, 32 bytes.
    chain
        Chain value of the stage, 32 bytes, fixed by the ledger before the stage starts.
    """
    _check_key_length("a stage key", key)
    _check_key_length("a chain value", chain)
    return hashlib.sha512(b"clicooper/v1/mark-seed\x00" + key + chain).digest()


def _mark_key_leaves(run_id: str, segment: int, master: bytes, stages: int) -> Sequence[bytes]:
    return [
        merkle_leaf_hash(mark_key_leaf(run_id, segment, stage, stage_mark_key(master, stage)))
        for stage in range(stages)
    ]


def _run_bytes(run_id: str) -> bytes:
    content = bytes.fromhex(run_id)
    if len(content) != _RUN_ID_BYTES or content.hex() != run_id:
        raise ValueError("a run id has 32 lower-case hexadecimal digits")
    return content


def _u32(number: int) -> bytes:
    return struct.pack(">I", number)


def _check_key_length(what: str, content: bytes) -> None:
    if len(content) != _BYTES:
        raise ValueError(f"{what} has {_BYTES} bytes, not {len(content)}")

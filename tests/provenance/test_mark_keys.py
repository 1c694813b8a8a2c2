"""Keys of marks: committed to before the run, opened one at a time."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.marks.mark_keys import (
    mark_key_leaf,
    mark_key_root,
    mark_key_seed,
    open_mark_key,
    stage_mark_key,
    verify_mark_key,
)
from clicooper_hpc.provenance.merkle import merkle_leaf_hash

MASTER = bytes(range(32))
RUN = "00112233445566778899aabbccddeeff"
STAGES = 5


def test_golden_values() -> None:
    """Frozen: keys enrolled today must open with every later version."""
    assert (
        stage_mark_key(MASTER, 0).hex()
        == "2d2e44b4033c9bb5f691a3268481fedd96ed41580340de401050dcfae9d37870"
    )
    assert (
        stage_mark_key(MASTER, 258).hex()
        == "72c8b9ae65e49743ad74f99bea711571d768550d58c837933a37f64152b292b3"
    )
    assert (
        mark_key_leaf(RUN, 3, 1, stage_mark_key(MASTER, 1)).hex()
        == "9da9698ca1747112463f6da792f9cad62bbca9d9ccdbd613ef31927649b5cb6d"
    )
    assert (
        mark_key_root(RUN, 3, MASTER, STAGES).hex()
        == "2bbab1ce71bf38eb48b1e3e7e3e155b6d9bdb4d3931e725cce91bc66a19ae0ca"
    )
    assert mark_key_seed(stage_mark_key(MASTER, 1), bytes(32)).hex() == (
        "8de9627574f75f6909ebbf8d1873e91a61ebfc8b093a31a093b831188420ed3c"
        "eb72e39c582e151a093fe508cf8508acfcf29360ee0dda8ac5511d569428ed66"
    )


def test_leaf_and_seed_are_the_written_hashes() -> None:
    key = stage_mark_key(MASTER, 7)
    content = bytes.fromhex(RUN) + (3).to_bytes(4, "big") + (7).to_bytes(4, "big") + key
    leaf = hashlib.sha256(b"clicooper/v1/mark-leaf\x00" + content).digest()
    assert mark_key_leaf(RUN, 3, 7, key) == leaf
    chain = hashlib.sha256(b"chain").digest()
    seed = hashlib.sha512(b"clicooper/v1/mark-seed\x00" + key + chain).digest()
    assert mark_key_seed(key, chain) == seed


def test_the_root_of_one_stage_is_its_leaf() -> None:
    assert mark_key_root(RUN, 3, MASTER, 1) == merkle_leaf_hash(
        mark_key_leaf(RUN, 3, 0, stage_mark_key(MASTER, 0))
    )


@pytest.mark.parametrize("stage", range(STAGES))
def test_every_stage_opens(stage: int) -> None:
    opening = open_mark_key(RUN, 3, MASTER, STAGES, stage)
    assert opening.key == stage_mark_key(MASTER, stage)
    verify_mark_key(opening, RUN, 3, STAGES, mark_key_root(RUN, 3, MASTER, STAGES))


def test_nothing_else_opens() -> None:
    root = mark_key_root(RUN, 3, MASTER, STAGES)
    opening = open_mark_key(RUN, 3, MASTER, STAGES, 2)
    other_run = "ff" + RUN[2:]
    wrong = [
        (replace(opening, key=bytes(32)), RUN, 3, STAGES, root),
        (replace(opening, key=stage_mark_key(MASTER, 3)), RUN, 3, STAGES, root),
        (replace(opening, key=b"short"), RUN, 3, STAGES, root),
        (replace(opening, index=3), RUN, 3, STAGES, root),
        (replace(opening, index=-1), RUN, 3, STAGES, root),
        (replace(opening, index=STAGES), RUN, 3, STAGES, root),
        (replace(opening, proof=opening.proof[:-1]), RUN, 3, STAGES, root),
        (replace(opening, proof=()), RUN, 3, STAGES, root),
        (opening, other_run, 3, STAGES, root),
        (opening, RUN, 2, STAGES, root),
        (opening, RUN, 3, STAGES + 4, root),
        (opening, RUN, 3, STAGES, mark_key_root(other_run, 3, MASTER, STAGES)),
    ]
    for claim in wrong:
        with pytest.raises(EvidenceError, match="not the one enrolled"):
            verify_mark_key(*claim)


def test_keys_of_stages_differ_and_are_not_printed() -> None:
    keys = {stage_mark_key(MASTER, stage) for stage in range(100)}
    assert len(keys) == 100
    opening = open_mark_key(RUN, 3, MASTER, STAGES, 0)
    assert opening.key.hex() not in repr(opening)
    assert str(opening.key) not in repr(opening)


@pytest.mark.parametrize(
    "call",
    [
        lambda: stage_mark_key(b"short", 0),
        lambda: mark_key_leaf(RUN.upper(), 1, 0, bytes(32)),
        lambda: mark_key_leaf("00", 1, 0, bytes(32)),
        lambda: mark_key_seed(bytes(32), b"chain"),
        lambda: mark_key_seed(bytes(31), bytes(32)),
    ],
)
def test_malformed_inputs_are_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"bytes|hexadecimal"):
        call()

"""The table of hostile ranks: what one rank does, and what the others make of it.

Every row is one rank of three (`hostile_runs.JOB`) that misbehaves in one way (`programs/
hostile_lies.py`). Unless ``ends`` says otherwise the run is refused: an honest rank says ``says``
in one line, all ranks end with ``code``, no honest rank is called at fault, none needs more memory
than in an honest run, and if the run had begun, honest ranks resume and verify it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """One behaviour.

    ``rank`` misbehaves; ``by`` says so, in words that match ``says``. ``restart``: while a run is
    resumed. ``ends``: "told" if the run goes on with a warning, "unseen" if it goes on without a
    word, for the reason in ``why``. ``always``: in every run of the tests.
    """

    lie: str
    rank: int
    by: int
    says: str
    code: int = 1
    restart: bool = False
    ends: Literal["refused", "told", "unseen"] = "refused"
    why: str = ""
    always: bool = False


def _wire(lie: str, says: str, *, always: bool = False) -> Row:
    told = rf"message from rank 1 \(forward\): {says}.*rank 1 is at fault"
    return Row(lie, 1, 2, told, always=always)


ACT = "rank 2 expected the activation of step 5, micro-batch 0, but what came "
HEADERS = [
    _wire("activation: magic", "header field 'magic' is"),
    _wire("activation: version", "header field 'version' is 9"),
    _wire("activation: unknown kind", "header field 'kind' is 99"),
    _wire("activation: other kind", f"{ACT}is the logits of step 5"),
    _wire("activation: unknown dtype", "header field 'dtype' is 99"),
    _wire("activation: other dtype", f"{ACT}holds torch.int32"),
    _wire("activation: dimensions", "header field 'number of dimensions' is 7"),
    _wire("activation: step below 0", "header field 'step' is -1"),
    _wire("activation: step before", f"{ACT}is the activation of step 4, micro-batch 0"),
    _wire("activation: step behind", f"{ACT}is the activation of step {2**40}"),
    _wire("activation: micro-batch", f"{ACT}is the activation of step 5, micro-batch 2"),
    _wire("activation: shape", "header field 'payload bytes' is 384, but shape"),
    _wire("activation: payload bytes", f"header field 'payload bytes' is {2**62}", always=True),
    _wire("activation: blob bytes", f"{ACT}is the activation of step 5, chunk 0|belongs to a blob"),
    _wire("activation: reserved", "header field 'reserved' is not zero"),
    _wire("activation: cut", f"{ACT}announces 384 bytes and has 380"),
    _wire("activation: header only", f"{ACT}announces 384 bytes and has 0"),
    _wire("activation: three bytes", "header field 'magic' is missing: 3 bytes came"),
    _wire("activation: no bytes", "header field 'magic' is missing: 0 bytes came"),
    _wire("activation: longer", "a longer message than agreed came in place of the activation"),
    _wire("activation: 64 MiB", "a longer message than agreed came in place of the activation"),
    _wire("activation: twice", "rank 2 expected the activation of step 5, micro-batch 1, but what"),
    _wire("activation: 2000 times", "rank 2 expected the activation of step 5, micro-batch 1, but"),
    _wire("activation: behind the next", f"{ACT}is the activation of step 5, micro-batch 1"),
    _wire("activation: stale", f"{ACT}is the activation of step 0, micro-batch 0"),
    _wire("activation: NaN", f"{ACT}holds NaN"),
    _wire("activation: infinity", f"{ACT}holds infinity"),
    _wire("activation: a row less", f"{ACT}has shape"),
    _wire("activation: bfloat16", f"{ACT}holds torch.bfloat16"),
]


def _late(lie: str, rank: int, by: int, due: str) -> Row:
    return Row(lie, rank, by, rf"rank {by} waited [\d.]+ s for the {due} from rank {rank} ")


def _lost(lie: str, rank: int, by: int, due: str) -> Row:
    """Say that one is missing while the next ones come."""
    return Row(
        lie, rank, by, rf"rank {by} expected the {due}, but .*: out of order.*rank {rank} is"
    )


MISSING = [
    _lost("activation: missing", 1, 2, "activation of step 5, micro-batch 0"),
    _lost("activation: other tag", 1, 2, "activation of step 5, micro-batch 0"),
    _lost("activation: to the owner", 1, 2, "activation of step 5, micro-batch 0"),
    _lost("gradient: missing", 2, 1, "gradient of step 5, micro-batch 0"),
    _lost("release: missing", 0, 1, "release of step 1, micro-batch 0"),
]
MISSING += [
    _lost("logits: missing", 2, 0, "logits of step 12, micro-batch 0"),
    _late("stop token: missing", 0, 1, "control message of step 5, micro-batch 0"),
    _late("hangs", 2, 1, r"gradient of step 6, micro-batch \d"),
    _late("sys.exit(0)", 2, 1, r"gradient of step 6, micro-batch \d"),
    # Here every rank waits for another in the end, and the first to say so is not the one that
    # waits for the liar; none is called at fault.
    Row("gradient norm: missing", 1, -1, r"waited [\d.]+ s for"),
    Row("metrics: missing", 2, -1, r"waited [\d.]+ s for"),
    Row("segment: missing", 1, -1, r"waited [\d.]+ s for"),
    Row("proof: missing", 1, -1, r"waited [\d.]+ s for"),
    Row("control message: missing", 2, -1, r"waited [\d.]+ s for"),
]

GRAD = "rank 1 expected the gradient of step 5, micro-batch 0, but what came "
REL = "rank 1 expected the release of step 1, micro-batch 0, but what came "
LIES_ON_THE_WIRE = [
    Row("gradient: step before", 2, 1, f"{GRAD}is the gradient of step 4.*rank 2 is at fault"),
    Row("gradient: behind the next", 2, 1, f"{GRAD}is the gradient of step 5, micro-batch 1"),
    Row("gradient: stale", 2, 1, f"{GRAD}is the gradient of step 0"),
    Row("gradient: NaN", 2, 1, f"{GRAD}holds NaN.*rank 2 is at fault"),
    Row("gradient: infinity", 2, 1, f"{GRAD}holds infinity.*rank 2 is at fault"),
    Row("gradient: a row less", 2, 1, f"{GRAD}has shape"),
    Row("gradient: bfloat16", 2, 1, f"{GRAD}holds torch.bfloat16"),
    Row("release: step before", 0, 1, f"{REL}is the release of step 4.*rank 0 is at fault"),
    Row("release: NaN", 0, 1, f"{REL}holds NaN"),
    Row("release: infinity", 0, 1, f"{REL}holds infinity"),
    Row("release: a row less", 0, 1, f"{REL}has shape"),
    Row("gradient norm: NaN", 1, 2, "gradient norm of step 5.*holds NaN.*rank 1 is at fault"),
    Row("gradient norm: infinity", 1, 2, "gradient norm of step 5.*holds infinity"),
    Row("gradient norm: other dtype", 1, 2, "header field 'payload bytes'|holds torch.int32"),
    Row("gradient norm: below 0", 1, 2, "from rank 1: the sum of squared gradients is -1, and at"),
    Row("gradient norm: 0", 2, 1, "from rank 2: the sum of squared gradients is 0, and at least"),
    Row("metrics: NaN", 2, 0, "metrics of step 5.*holds NaN.*rank 2 is at fault"),
    Row("metrics: infinity", 2, 0, "metrics of step 5.*holds infinity"),
    Row("metrics: other dtype", 2, 0, "header field 'payload bytes'|holds torch.int32"),
    Row("metrics: loss below 0", 2, 0, "metrics of step 5: the report says a loss of -1"),
    Row("metrics: accuracy 2", 2, 0, "the report says an accuracy of 2.*rank 2 is at fault"),
    Row("metrics: learning rate", 2, 0, "the report says the learning rate 0.5 instead of"),
    Row("metrics: stop 7", 2, 0, "the report says 7 where a stop is asked for by 1"),
    Row("logits: NaN", 2, 0, "logits of step 12, micro-batch 0.*holds NaN"),
    Row("logits: infinity", 2, 0, "logits of step 12, micro-batch 0.*holds infinity"),
    Row("logits: other dtype", 2, 0, "holds torch.int32 instead of torch.float32"),
    Row("logits: a row less", 2, 0, "logits of step 12.*has shape"),
    Row("stop token: neither", 0, 1, "message from rank 0.*stop token of step 5 is neither"),
    Row("stop token: stop", 1, -1, r"waited [\d.]+ s for"),
    Row("raises", 2, 2, "internal error: RuntimeError"),
]

CHANGED = "claims to have exchanged other messages than came here"
STATEMENTS = [
    Row("activation: flipped bit", 1, 2, f"hand-off 1 of stage 0: rank 1 {CHANGED}", 4),
    Row("release: flipped bit", 0, 1, f"hand-off 0 of stage 0: rank 0 {CHANGED}", 4),
    # The hand-off is the other end's, so it is the liar who disputes it.
    Row("gradient: flipped bit", 2, 2, f"hand-off 1 of stage 0: rank 1 {CHANGED}", 4),
    Row("proof: garbage", 1, -1, "proof of rank 1, stage 0: ", 4),
    Row("proof: nothing", 1, -1, "proof of rank 1, stage 0: ", 4),
    Row("proof: nested", 1, -1, "proof of rank 1, stage 0: ", 4),
    Row("proof: too long", 1, -1, "a longer message than agreed came in place of the proof"),
    Row("proof: blob bytes", 1, 2, f"the proof of step 0 has {2**62} bytes, more than the"),
    Row("proof: 64 MiB", 1, 2, "a longer message than agreed came in place of the proof"),
    Row("proof: of the stage before", 1, 2, f"hand-off 1 of stage 1: rank 1 {CHANGED}", 4),
    Row("hand-off: garbage", 0, 1, "proof of rank 0, stage 0: ", 4),
    Row("enrolment: garbage", 2, 0, "enrolment of rank 2: ", 4),
    Row("enrolment: nested", 2, 0, "enrolment of rank 2: ", 4),
    Row("cosignature: garbage", 2, 0, "checkpoint cosigned by rank 2: ", 4),
    Row("run statement: garbage", 0, 1, "run statement of the owner: ", 4),
    Row("ledger: garbage", 0, -1, "ledger update of the owner: ", 4),
    Row("ledger: nested", 0, -1, "ledger update of the owner: ", 4),
    Row("ledger: no growth", 0, -1, "0 checkpoints of 0 are there", 4),
    Row("ledger: an entry more", 0, -1, "an update cannot end at 12 entries", 4),
    Row("ledger: of the stage before", 0, -1, "an update cannot end at 10 entries", 4),
    Row("ledger: to one alone", 0, 2, "0 checkpoints of 0 are there", 4),
    Row("evaluated: longer", 0, -1, "a longer message than agreed came in place of the control"),
    Row("segment: blob bytes", 1, 0, f"the segment of step 4 has {2**62} bytes, more than the"),
    Row("segment: 64 MiB", 1, 0, "a longer message than agreed came in place of the segment"),
    Row("delivery: garbage", 2, 0, "segment delivered by rank 2 after step 4: is not safetensors"),
    Row("delivery: nothing", 2, 0, "segment delivered by rank 2 after step 4: is not safetensors"),
    Row("delivery: longer", 2, 0, "a longer message than agreed came in place of the segment"),
    Row("delivery: 3e38", 2, 0, "segment 2 as rank 2 delivered it: its outputs on clean rows hold"),
    Row("delivery: x 1e6", 2, 0, "segment 2: the delivered weights are not those", 4, always=True),
    Row("delivery: other names", 2, 0, "tensor .* is missing or was not ordered"),
    Row("delivery: bfloat16", 2, 0, "delivered by rank 2 .*: tensor .* is torch.bfloat16"),
    Row("checkpoint: garbage", 2, 0, "checkpoint message from rank 2: names its files in a way"),
    Row("checkpoint: nested", 2, 0, "checkpoint message from rank 2: names its files in a way"),
    Row("checkpoint: other names", 2, 0, "names '../../private/master.key', which it has no file"),
    Row(
        "checkpoint: another rank's",
        2,
        0,
        "names 'segment-001.safetensors', which it has no file of.*rank 2 is at fault",
        always=True,
    ),
    Row("checkpoint: no digest", 2, 0, "checkpoint message from rank 2: says of .* no size and"),
    # What it is to sign is not what it has written: the liar's own word, as in a hand-off.
    Row("checkpoint: other digest", 2, 2, "the owner lists other files than this rank has", 4),
    Row(
        "checkpoint: false digest, sealed",
        2,
        0,
        "",
        0,
        ends="unseen",
        why="of its own file; a restart takes an older checkpoint",
    ),
    Row("checkpoint list: garbage", 0, -1, "checkpoint message from rank 0: names its files"),
    Row("checkpoint list: nested", 0, -1, "checkpoint message from rank 0: names its files"),
    Row("checkpoint list: nothing", 0, -1, "the owner lists other files than this rank has", 4),
    Row("checkpoint list: other name", 0, -1, "names '../../private/master.key', which it has no"),
    Row(
        "checkpoint seal: garbage",
        2,
        0,
        "",
        0,
        ends="unseen",
        why="each rank believes its own seal alone; a restart takes an older checkpoint",
    ),
    Row("checkpoint seal: longer", 2, 0, "a longer message than agreed came in place of"),
]

OWNER = r"message from rank 0 \(control\): "
NOTHING = f"{OWNER}there is nothing to do, it says, but this start was to begin a run"
TOLD = r"messages from rank 0 \(control\): rank 1 was told something else than rank 2: "
START = [
    Row("request: garbage", 0, -1, f"{OWNER}the request to run cannot be read"),
    Row("request: nested", 0, -1, f"{OWNER}the request to run cannot be read"),
    Row("request: numbers", 0, -1, f"{OWNER}the request to run holds something else than texts"),
    Row("request: nothing", 0, -1, NOTHING),
    Row("request: nothing, to one", 0, 1, NOTHING),
    Row("contract: garbage", 0, -1, f"{OWNER}the owner's contract cannot be read"),
    # A row that ends before the first step costs next to nothing.
    Row("contract: nested", 0, -1, f"{OWNER}the owner's contract cannot be read"),
    Row("contract: huge rows", 0, -1, f"{OWNER}the owner's contract says {2**40} numbers"),
    Row("contract: huge samples", 0, -1, f"{OWNER}the owner's contract says {2**40} samples"),
    Row("contract: huge outputs", 0, -1, f"{OWNER}the owner's contract says {2**50} sub-labels"),
    Row("contract: no samples", 0, -1, f"{OWNER}the owner's contract says 0 samples"),
    Row("contract: below 0", 0, -1, f"{OWNER}the owner's contract holds something else"),
    Row("contract: others to one", 0, 2, f"{TOLD}contract", always=True),
    Row("run id: garbage", 0, -1, f"{OWNER}the id of the run is not 32 hexadecimal digits"),
    Row("run id: others to one", 0, 2, f"{TOLD}id of the run"),
    Row("cuts: garbage", 0, -1, f"{OWNER}the cuts cannot be read"),
    Row("cuts: outside", 0, -1, rf"{OWNER}cuts \[99\] leave the network"),
    Row("cuts: no numbers", 0, -1, f"{OWNER}the cuts are no list of numbers"),
    Row("cuts: others to one", 0, 2, f"{TOLD}cuts"),
    Row("sub-labels: out of range", 0, -1, f"{OWNER}sample 3 has the sub-label 1000000; there"),
    Row("sub-labels: below 0", 0, -1, f"{OWNER}sample 3 has the sub-label -1; there are 20"),
    Row("sub-labels: odd bytes", 0, -1, f"{OWNER}the sub-labels have 239 bytes instead of 240"),
    Row("sub-labels: too many", 0, -1, f"{OWNER}a longer message than agreed came"),
    Row("sub-labels: others to one", 0, 2, f"{TOLD}sub-labels"),
    Row("keys: garbage", 0, 1, "the Ed25519 public key has small order", 4),
    Row("keys: garbage, and all is well", 0, -1, "the Ed25519 public key has small order", 4),
    Row(
        "keys: other nonce",
        0,
        2,
        "the owner passed on another nonce than this rank's",
        4,
        always=True,
    ),
    Row("keys: other nonce to one", 0, 2, f"{TOLD}start"),
    Row("key: nothing", 2, 0, r"message from rank 2 \(control\): a public key and a nonce of 0"),
    Row("verdict: short", 2, 0, "message from rank 2 .*: a verdict of 1 bytes"),
    Row("verdict: 2**31 bytes of reason", 2, 0, "a longer message than agreed came"),
    Row("control message: blob bytes", 2, 0, f"has {2**62} bytes, more than the"),
    Row("control message: 64 MiB", 2, 0, "a longer message than agreed came in place of"),
]

RESTARTS = [
    Row(
        "request: nothing", 0, -1, f"{OWNER}there is nothing to do, it says, but the index", 1, True
    ),
    Row("steps: garbage", 0, -1, f"{OWNER}the steps of the owner's checkpoints cannot be", 1, True),
    Row(
        "steps: not falling", 0, -1, f"{OWNER}the steps of the owner's checkpoints do not", 1, True
    ),
    Row("steps: none", 0, -1, r"waited [\d.]+ s for the control message of step", 1, True),
    Row("ledger size: garbage", 0, -1, "the size of the ledger is no number", 1, True),
    Row("ledger size: too large", 0, -1, "the size of the ledger is no number", 1, True),
    Row("ledger size: a stage more", 0, -1, "rows are missing that rank 1 has signed", 2, True),
    Row(
        "ledger size: 0", 0, -1, "the owner's ledger has 0 entries, and rank 1 has seen 9", 4, True
    ),
    Row("whole ledger: garbage", 0, -1, "ledger update of the owner: ", 4, True),
    Row("whole ledger: empty", 0, -1, "0 checkpoints of 0 are there", 4, True),
]

GROWS = r"is \d\.\de\+0[56] times as large as any of the first \d+: training diverges, or rank "
GROWTH = [
    Row("activation: x 1e6", 1, 2, rf"\(forward\): the activation of step 5.* {GROWS}1", 0),
    Row("gradient: x 1e6", 2, 1, r"\(backward\): the gradient of step 5.* is .* times as large", 0),
    Row("release: x 1e6", 0, 1, rf"\(forward\): the release of step 3.* {GROWS}0", 0),
    Row("metrics: loss x 1e6", 2, 0, r"\(control\): the metrics of step 1\d.* is .* times as", 0),
    Row("gradient norm: x 1e7", 1, 2, "the gradient norm of step 1.* is .* times as large", 0),
]

ROWS = [
    *HEADERS,
    *MISSING,
    *LIES_ON_THE_WIRE,
    *STATEMENTS,
    *START,
    *RESTARTS,
    *(replace(row, ends="told", always=row is GROWTH[0]) for row in GROWTH),
]

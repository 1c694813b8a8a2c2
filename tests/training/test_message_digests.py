"""What both ends of a channel sign of its messages."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from numpy import uint8
from numpy.typing import NDArray

from clicooper_hpc.provenance.merkle import merkle_leaf_hash, merkle_root
from clicooper_hpc.training.message_digests import MessageLog
from clicooper_hpc.transport.header import HEADER_BYTES


def message(step: int, part: int, payload: int) -> NDArray[uint8]:
    raw = np.full(HEADER_BYTES + payload, 7, uint8)
    raw[8:16] = np.frombuffer(step.to_bytes(8, "little", signed=True), uint8)
    raw[16:20] = np.frombuffer(part.to_bytes(4, "little"), uint8)
    return raw


@pytest.mark.parametrize("helper", [False, True])
def test_a_record_holds_every_training_message_in_order(helper: bool) -> None:
    log = MessageLog(5, helper=helper)
    observe = log.digest_observer("forward_in")
    sent = [message(step, part, 100 * (part + 1)) for step in (3, 4, 5) for part in range(3)]
    slot = np.zeros(1000, uint8)
    for raw in sent:  # buffers of the transport are used again at once
        slot[: raw.size] = raw
        observe(slot[: raw.size])
    records, times = log.take_digests()
    record = records["forward_in"]
    digests = [blake3(b"clicooper/v1/message\x00" + raw.tobytes()).digest() for raw in sent[:6]]
    assert record.digests == digests
    assert record.places == [(step, part) for step in (3, 4) for part in range(3)]
    assert record.flow().bytes == 2 * (100 + 200 + 300)
    assert record.root == merkle_root([merkle_leaf_hash(digest) for digest in digests])
    assert (times.helper_s > 0) is helper
    observe(sent[0])
    assert log.take_digests()[0]["forward_in"].digests == digests[:1]
    log.close()

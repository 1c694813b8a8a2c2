"""An audit compares a replay with nothing that no proof vouches for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cheats import claim_of
from stage import Case, train

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.stage_claim import claimed_messages, claimed_state
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.statements import Handoff
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.runstore.safetensors_files import pack_safetensors
from clicooper_hpc.runstore.tables.schema import MESSAGES
from clicooper_hpc.training.message_digests import ChannelRecord

pytestmark = pytest.mark.usefixtures("one_thread")

Tables = dict[int, dict[str, np.ndarray[Any, Any]]]
STAGE = 2
DIGEST = next(column.dtype for column in MESSAGES.columns if column.name == "digest")


@pytest.fixture
def recorded() -> tuple[Tables, list[Handoff], dict[Stream, tuple[bytes, ...]]]:
    """Tables and hand-offs of a small stage, written as the ranks would."""
    case = Case()
    claim = claim_of(train(case, case.steps()[:2]))
    digests = {stream: tuple(values) for stream, values in claim.digests.items()}
    digests[Stream(0, "backward")] = ()
    tables: Tables = {}
    for rank in (1, 2, 3):
        rows: list[tuple[int, bytes, bytes]] = [(1, b"forward_in", bytes(32))]
        for channel, stream in (
            (b"forward_in", Stream(rank - 1, "forward")),
            (b"forward_out", Stream(rank, "forward")),
            (b"backward_in", Stream(rank, "backward")),
            (b"backward_out", Stream(rank - 1, "backward")),
        ):
            rows += [(STAGE, channel, digest) for digest in digests.get(stream, ())]
        tables[rank] = {
            "stage": np.array([row[0] for row in rows]),
            "channel": np.array([row[1] for row in rows], "S16"),
            "digest": np.array([row[2].hex().encode() for row in rows], DIGEST),
        }
    handoffs = [
        Handoff(
            run_id="0" * 32,
            stage=STAGE,
            boundary=boundary,
            forward=ChannelRecord(digests=list(digests[Stream(boundary, "forward")])).flow(),
            backward=ChannelRecord(digests=list(digests[Stream(boundary, "backward")])).flow(),
        )
        for boundary in range(3)
    ]
    return tables, handoffs, digests


def test_signed_messages_come_back_as_they_were_sent(
    recorded: tuple[Tables, list[Handoff], dict[Stream, tuple[bytes, ...]]],
) -> None:
    tables, handoffs, digests = recorded
    assert claimed_messages(tables, handoffs, STAGE) == digests


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("how", ["changed", "left out", "exchanged", "missing"])
def test_other_messages_than_the_signed_ones_are_refused(
    recorded: tuple[Tables, list[Handoff], dict[Stream, tuple[bytes, ...]]], rank: int, how: str
) -> None:
    tables, handoffs, _ = recorded
    table = tables[rank]
    if how == "changed":
        table["digest"][-1] = b"0" * 64
    elif how == "left out":
        tables[rank] = {name: values[:-1] for name, values in table.items()}
    elif how == "exchanged":
        table["digest"][[1, 2]] = table["digest"][[2, 1]]
    else:
        del tables[rank]
    with pytest.raises(EvidenceError, match=f"rank {rank}, stage {STAGE}"):
        claimed_messages(tables, handoffs, STAGE)


def test_handoffs_of_another_stage_or_order_are_refused(
    recorded: tuple[Tables, list[Handoff], dict[Stream, tuple[bytes, ...]]],
) -> None:
    tables, handoffs, _ = recorded
    with pytest.raises(EvidenceError, match="hand-off 0 of stage 3"):
        claimed_messages(tables, handoffs, 3)
    with pytest.raises(EvidenceError, match="hand-off 0 of stage 2"):
        claimed_messages(tables, handoffs[::-1], STAGE)


def test_only_the_proved_state_is_taken() -> None:
    case = Case()
    state = train(case, case.steps()[:2]).states[1]
    content = pack_safetensors(state, {})
    roots = {
        "weights": digest_tensors(content, prefix="weights/").hex,
        "training": digest_tensors(content, prefix="training/").hex,
    }
    taken = claimed_state(content, **roots, where="here")
    assert pack_safetensors(taken, {}) == content
    for prefix in ("weights/", "training/"):
        name = next(name for name in state if name.startswith(prefix))
        other = pack_safetensors({**state, name: state[name] + 1e-6}, {})
        with pytest.raises(EvidenceError, match=f"here: {prefix[:-1]} are not those"):
            claimed_state(other, **roots, where="here")
    with pytest.raises(EvidenceError, match="tensor more is not covered"):
        claimed_state(pack_safetensors({**state, "more": torch.ones(1)}, {}), **roots, where="here")
    with pytest.raises(EvidenceError):
        claimed_state(content[:-1], **roots, where="here")

"""An audit compares a replay with nothing that no proof vouches for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from cheats import claim_of
from stage import Case, train

from clicooper_hpc.audit.message_trace import MessageTrace, Stream
from clicooper_hpc.audit.stage_claim import claimed_messages, claimed_state, unlike_tables
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
    digests = {stream: tuple(values or ()) for stream, values in claim.digests.items()}
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


#: A replay of which no message is the claimed one, so that only tables can tell what was signed.
ELSEWHERE = MessageTrace((), {})
Recorded = tuple[Tables, list[Handoff], dict[Stream, tuple[bytes, ...]]]


def test_signed_messages_come_back_as_they_were_sent(recorded: Recorded) -> None:
    tables, handoffs, digests = recorded
    assert claimed_messages(tables, handoffs, STAGE, ELSEWHERE) == digests
    assert unlike_tables(tables, handoffs, STAGE) == {}


def test_a_replay_with_the_signed_root_needs_no_table(recorded: Recorded) -> None:
    _, handoffs, digests = recorded
    case = Case()
    trace = train(case, case.steps()[:2]).trace
    assert claimed_messages({}, handoffs, STAGE, trace) == digests


def spoil(tables: Tables, rank: int, how: str) -> None:
    table = tables[rank]
    if how == "changed":
        table["digest"][-1] = b"0" * 64
    elif how == "no digest":
        table["digest"][-1] = b"no digest"
    elif how == "left out":
        tables[rank] = {name: values[:-1] for name, values in table.items()}
    elif how == "exchanged":
        table["digest"][[1, 2]] = table["digest"][[2, 1]]
    else:
        del tables[rank]


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("how", ["changed", "no digest", "left out", "exchanged", "missing"])
def test_a_table_unlike_what_was_signed_is_its_ranks_own_and_stands_in_nobodys_way(
    recorded: Recorded, rank: int, how: str
) -> None:
    tables, handoffs, digests = recorded
    spoil(tables, rank, how)
    assert set(unlike_tables(tables, handoffs, STAGE)) == {rank}
    found = claimed_messages(tables, handoffs, STAGE, ELSEWHERE)
    # The other end of each stream has the same list; the owner, behind boundary 0, keeps none.
    assert all(
        one == digests[stream]
        for stream, one in found.items()
        if stream.boundary or one is not None
    )


def test_a_stream_of_which_both_ends_lie_is_known_to_differ_and_no_more(
    recorded: Recorded,
) -> None:
    tables, handoffs, digests = recorded
    spoil(tables, 1, "missing")
    spoil(tables, 2, "missing")
    found = claimed_messages(tables, handoffs, STAGE, ELSEWHERE)
    assert found[Stream(1, "forward")] is None
    assert found[Stream(2, "forward")] == digests[Stream(2, "forward")]


def test_handoffs_of_another_stage_or_order_are_refused(
    recorded: Recorded,
) -> None:
    tables, handoffs, _ = recorded
    with pytest.raises(EvidenceError, match="hand-off 0 of stage 3"):
        claimed_messages(tables, handoffs, 3, ELSEWHERE)
    with pytest.raises(EvidenceError, match="hand-off 0 of stage 2"):
        claimed_messages(tables, handoffs[::-1], STAGE, ELSEWHERE)


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

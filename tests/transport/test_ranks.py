"""Channels, blobs and exchanges between real ranks; one launch per world size serves all tests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mpirun import mpirun

from clicooper_hpc.transport.header import HEADER_BYTES, pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.tap import read_tap

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).parent / "programs" / "channels.py"


class Run:
    """Results and tap folder of one launch."""

    def __init__(self, size: int, folder: Path) -> None:
        done = mpirun(size, [str(PROGRAM), str(folder)])
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-4000:]
        self.size = size
        self.folder = folder
        self.ranks: list[dict[str, Any]] = [
            json.loads((folder / f"rank-{rank}.json").read_text(encoding="utf-8"))
            for rank in range(size)
        ]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(2, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module", params=[2, 3, 5])
def launch(
    request: pytest.FixtureRequest, two: Run, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    size: int = request.param
    return two if size == 2 else Run(size, tmp_path_factory.mktemp(f"ranks{size}"))


def test_world_is_what_the_launcher_started(launch: Run) -> None:
    for rank, seen in enumerate(launch.ranks):
        assert (seen["rank"], seen["size"]) == (rank, launch.size)
        assert len(seen["processors"]) == launch.size
        assert len(set(seen["processors"])) == 1
        assert "\n" not in seen["library"]
    # Not always in rank order: some launchers place ranks otherwise.
    assert sorted(seen["local_rank"] for seen in launch.ranks) == list(range(launch.size))


def test_both_directions_keep_their_order(launch: Run) -> None:
    for rank, seen in enumerate(launch.ranks):
        from_above, from_below = seen["ordering"]
        assert from_above == ([100 * (rank - 1) + k for k in range(40)] if rank > 0 else [])
        last = rank == launch.size - 1
        assert from_below == ([] if last else [100 * (rank + 1) + k for k in range(40)])


def test_blobs_arrive_whole_at_every_length(launch: Run) -> None:
    first, last = launch.ranks[0]["blobs"], launch.ranks[-1]["blobs"]
    assert len(first) == 8
    assert last == first


def test_exchanges_reach_every_rank(launch: Run) -> None:
    names = [f"rank {rank}" for rank in range(launch.size)]
    for rank, seen in enumerate(launch.ranks):
        exchanges = seen["exchanges"]
        assert exchanges["heard"] == names
        assert exchanges["gathered"] == [
            names if rank == root else None for root in range(launch.size)
        ]


def test_all_ranks_learn_the_first_failure(launch: Run) -> None:
    for seen in launch.ranks:
        assert seen["exchanges"]["fine"] == [0, "", -1]
        assert seen["exchanges"]["bad"] == [3, "no: 1", 1]


def test_tap_holds_every_message_and_nothing_else(launch: Run) -> None:
    for rank, seen in enumerate(launch.ranks):
        messages, sizes = 0, 0
        for header, payload, peer in read_tap(launch.folder / f"rank-{rank:03d}.wire"):
            assert peer != rank
            assert len(payload) == header.payload_bytes
            messages += 1
            sizes += HEADER_BYTES + len(payload)
        counted = [seen["traffic"][f"{way} sent"] for way in ("forward", "backward", "control")]
        assert [messages, sizes] == [sum(column) for column in zip(*counted, strict=True)]


def test_what_one_rank_sent_is_what_the_others_received(launch: Run) -> None:
    for direction in ("forward", "backward", "control"):
        totals = Counter[str]()
        for seen in launch.ranks:
            for way in ("sent", "received"):
                messages, size = seen["traffic"][f"{direction} {way}"]
                totals[f"{way} messages"] += messages
                totals[f"{way} bytes"] += size
        assert totals["sent messages"] == totals["received messages"] > 0
        assert totals["sent bytes"] == totals["received bytes"]


def test_tap_shows_the_released_values(two: Run) -> None:
    sent = [
        (header, payload)
        for header, payload, _ in read_tap(two.folder / "rank-000.wire")
        if header.kind == Kind.RELEASE
    ]
    assert [header.micro_batch for header, _ in sent] == list(range(6))
    wire = (two.folder / "rank-000.wire").read_bytes()
    assert all(pack_header(header) + payload in wire for header, payload in sent)


def test_full_slots_hold_messages_back_without_harm(two: Run) -> None:
    assert two.ranks[1]["back_pressure"] == [True] * 6


def test_any_shape_arrives_as_it_is(two: Run) -> None:
    shapes = [[8, 3, 4], [5, 3, 4], [0, 3, 4], [], [7], [1, 2, 1, 2, 1, 2]]
    assert two.ranks[1]["shapes"] == [[shape, True] for shape in shapes]


def test_every_type_keeps_every_bit(two: Run) -> None:
    assert two.ranks[1]["dtypes"] == [True] * 8


def test_strided_and_graph_tensors_are_copied_at_the_send(two: Run) -> None:
    assert two.ranks[1]["sources"] == [True, True, False]


def test_held_messages_are_autograd_leaves_of_their_own(two: Run) -> None:
    *gradients, refusal = two.ranks[1]["leaves"]
    assert gradients == [[2.0 * k] * 3 for k in range(6)]
    assert "recycled before" in refusal


def test_backward_through_a_released_message_fails(two: Run) -> None:
    assert "modified by an inplace operation" in two.ranks[1]["stale"]


def test_ready_foretells_a_receive_without_wait(two: Run) -> None:
    assert two.ranks[1]["ready"] == [False, False, True]

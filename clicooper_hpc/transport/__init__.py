"""Messages between ranks: the only code that imports mpi4py.

From the wire up: `header` (64 bytes before every payload), `slot` (a reusable buffer), `link`
(one way to one peer, the only place that sends and receives), `sender` and `receiver` (the two
ends of a channel), `blob` (long byte strings), `collectives` (small exchanges among all ranks),
`world` (the ranks), `launch` (start of MPI). `tap` keeps what was sent, `selftest` tries it out.
"""

from __future__ import annotations

from clicooper_hpc.transport.collectives import Agreement
from clicooper_hpc.transport.header import HEADER_BYTES, Header, pack, unpack
from clicooper_hpc.transport.kinds import Direction, DType, Kind
from clicooper_hpc.transport.launch import check_world, launcher_size, local_rank, start_mpi
from clicooper_hpc.transport.link import Counters, Link
from clicooper_hpc.transport.receiver import Message, Receiver
from clicooper_hpc.transport.selftest import HopTime, SelfTest, self_test
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.slot import MAX_PAYLOAD_BYTES
from clicooper_hpc.transport.tap import Tap, read_tap
from clicooper_hpc.transport.wait import Waiting
from clicooper_hpc.transport.world import Traffic, World

__all__ = [
    "HEADER_BYTES",
    "MAX_PAYLOAD_BYTES",
    "Agreement",
    "Counters",
    "DType",
    "Direction",
    "Header",
    "HopTime",
    "Kind",
    "Link",
    "Message",
    "Receiver",
    "SelfTest",
    "Sender",
    "Tap",
    "Traffic",
    "Waiting",
    "World",
    "check_world",
    "launcher_size",
    "local_rank",
    "pack",
    "read_tap",
    "self_test",
    "start_mpi",
    "unpack",
]

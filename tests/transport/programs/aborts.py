"""One rank fails with an error of ours, all others wait. Arguments: failing rank, exit code."""

from __future__ import annotations

import sys

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.mpi_library import start_mpi

world = start_mpi()
failing, code = int(sys.argv[1]), int(sys.argv[2])
if world.rank == failing:
    print("said before")
    print(PeerError("the net is torn", where=f"rank {failing}").line(), file=sys.stderr)
    world.abort(code)
receiver = world.open_receiver("forward", failing, capacity_bytes=64, slots=1, deadline_s=100.0)
receiver.receive(Kind.ACTIVATION, 0, 0)

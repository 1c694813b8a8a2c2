"""Start MPI and say what it sees; errors end as a verb would end them."""

from __future__ import annotations

import sys

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.transport.mpi_library import check_mpi_world, start_mpi

try:
    world = start_mpi()
    check_mpi_world(world)
except ClicooperError as error:
    print(error.line(), file=sys.stderr)
    sys.exit(error.exit_code)
print(world.rank, world.size, world.local_rank)

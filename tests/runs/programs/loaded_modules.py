"""loaded_modules.py FOLDER ARGUMENTS...: the command line; every rank lists what it has imported.

Names of modules go to FOLDER/RANK.modules, one a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from clicooper_hpc.cli import main

FOLDER = Path(sys.argv.pop(1))
code = main()
from mpi4py import MPI  # noqa: E402 - late: importing it starts MPI, which is the program's to do

rank = MPI.COMM_WORLD.Get_rank()
(FOLDER / f"{rank}.modules").write_text("\n".join(sorted(sys.modules)))
sys.exit(code)

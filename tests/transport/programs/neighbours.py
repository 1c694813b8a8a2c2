"""Run the self-test; each rank writes its result to ``rank-N.json``. Arguments: result folder."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from clicooper_hpc.transport.mpi_library import start_mpi
from clicooper_hpc.transport.self_test import run_self_test

with start_mpi() as world:
    result = run_self_test(world, payload_sizes=(0, 64, 70_000), repeats=3)
    path = Path(sys.argv[1]) / f"rank-{world.rank}.json"
    path.write_text(json.dumps(dataclasses.asdict(result)), encoding="utf-8")

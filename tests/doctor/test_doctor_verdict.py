"""An exit code that the examination of an environment cannot have ends no rank as it says."""

from __future__ import annotations

import pytest
from mpirun import mpirun

pytestmark = pytest.mark.mpi

PROGRAM = """
import sys
from pathlib import Path
from clicooper_hpc.doctor import examine_environment as module
module.diagnosis_exit_code = lambda findings: {code}
sys.exit(module.examine_environment(Path("."), lambda text: None))
"""


@pytest.mark.parametrize("code", [75, 1, 255])
def test_an_impossible_code_of_the_examination_ends_all_ranks_with_5(code: int) -> None:
    done = mpirun(2, ["-c", PROGRAM.format(code=code)])
    assert done.returncode == 5, done.stderr
    assert "the exit code of the examination is impossible" in done.stderr
    assert "Traceback" not in done.stderr

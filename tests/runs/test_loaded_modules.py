"""A rank imports what its own work needs: a run starts in seconds, not in those of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpirun import mpirun
from start import SMALL

pytestmark = pytest.mark.mpi

PROGRAM = Path(__file__).with_name("programs") / "loaded_modules.py"
RANKS = 3
#: Torch's compiler and what it brings, and libraries of attacks, reports and fitted fronts.
NOBODY = {
    "torch._dynamo",
    "torch._inductor",
    "torch.onnx._internal",
    "sympy",
    "opacus",
    "sklearn",
    "pandas",
    "matplotlib",
    "onnx",
}
#: What only the owner computes: noise, privacy and fronts.
OWNER_ONLY = {"scipy", "mpmath", "clicooper_hpc.fronts", "clicooper_hpc.owner"}
TRAINER_ONLY = {"clicooper_hpc.trainer"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_rank_loads_what_others_or_other_jobs_need(tmp_path: Path, optimizer: str) -> None:
    (tmp_path / "job.toml").write_text(SMALL)
    words = ["run", str(tmp_path / "job.toml"), "-o", str(tmp_path / "run"), "--quiet"]
    words += ["--set", f"training.optimizer={optimizer}"]
    done = mpirun(RANKS, [str(PROGRAM), str(tmp_path), *words], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = [set((tmp_path / f"{r}.modules").read_text().split()) for r in range(RANKS)]
    assert all({"torch", "clicooper_hpc.run.main"} <= modules for modules in loaded)
    assert loaded[0] >= OWNER_ONLY | {"scipy.special"}
    assert sorted(loaded[0] & NOBODY) == []
    for modules in loaded[1:]:
        assert modules >= TRAINER_ONLY
        assert sorted(modules & (NOBODY | OWNER_ONLY)) == []

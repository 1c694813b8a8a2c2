"""The scripts beside the shipped jobs run with the package as it is now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clicooper_hpc.data.dataset_writer import DatasetWriter
from clicooper_hpc.fronts.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
JOBS = ROOT / "jobs"
SCRIPTS = sorted([*JOBS.glob("*.py"), *(JOBS / "fronts").glob("*.py")])
#: Networks of one's own and the like, which a job names as a module: nothing to start.
MODULES = {JOBS / "mynetwork.py"}


def python(*words: str) -> str:
    """Run Python in the folder that the documented commands are run in; return what it prints."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_is_imported(script: Path) -> None:
    python("-c", f"import runpy; runpy.run_path({str(script)!r}, run_name='imported')")


@pytest.mark.parametrize("script", sorted({*SCRIPTS} - MODULES), ids=lambda path: path.stem)
def test_every_script_that_is_started_tells_what_it_takes(script: Path) -> None:
    assert f"usage: {script.name}" in python(str(script), "--help")


def test_a_front_is_made_from_a_data_file(tmp_path: Path) -> None:
    """Behind its options it reads a data file, which --help does not reach."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    y = np.arange(256, dtype=np.int64) % 10
    data = tmp_path / "set.h5"
    with DatasetWriter(data, source="drawn by chance", source_kind="npz") as writer:
        for split in ("train", "test"):
            writer.append_samples(split, x, y)
        writer.finish([f"class {k}" for k in range(10)])
    out = tmp_path / "front.safetensors"
    python(str(JOBS / "fronts" / "make_cifar10.py"), str(data), str(out), "--epochs", "1")
    made, shipped = (
        load_weights(path, None) for path in (out, JOBS / "fronts" / "cifar10-conv64.safetensors")
    )
    assert made.layers_in_file == shipped.layers_in_file
    assert made.trained_on == "CIFAR-10 train (256 images), by make_cifar10.py, public"

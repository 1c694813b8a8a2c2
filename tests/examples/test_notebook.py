"""The notebook of examples/ runs from its first cell to its last, and holds no outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clicooper_hpc.runstore.reader import open_run

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "train-and-look.ipynb"
CELLS = Path(__file__).with_name("notebook_cells.py")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the jobs beside it, as examples/ is; runs land in neither."""
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    (tmp_path / "examples").mkdir()
    return tmp_path / "examples"


def test_it_holds_no_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.mpi
def test_every_cell_runs(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CELLS), str(NOTEBOOK)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = dict(
        re.findall(r"^--- (\S+)\n(.*?)(?=^--- |\Z)", done.stdout, re.DOTALL | re.MULTILINE)
    )
    assert "<td" in shown["train"]
    assert "epsilon 8" in shown["train"]
    assert "guarantee        epsilon 8" in done.stdout
    # Progress is seen while it trains.
    assert "epoch 30/30" in done.stderr
    # The model that was trained, and rows as it takes them: chance is 10 %.
    (right,) = re.findall(r"^right: ([\d.]+) %", done.stdout, re.MULTILINE)
    run = open_run(place.parent / "runs/notebook")
    assert float(right) / 100 == pytest.approx(float(str(run.results["clean_accuracy"])), abs=0.1)
    assert float(right) > 50


@pytest.mark.mpi
@pytest.mark.matrix
def test_a_kernel_runs_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: the extra 'notebook'")
    nbformat = pytest.importorskip("nbformat", reason="no nbformat: the extra 'notebook'")
    pytest.importorskip("ipykernel", reason="no ipykernel: the extra 'notebook'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    client.execute()
    outputs = {cell["id"]: cell.get("outputs", []) for cell in notebook.cells}
    kinds = {kind for one in outputs["train"] for kind in one.get("data", {})}
    assert "text/html" in kinds
    assert any("image/png" in one.get("data", {}) for one in outputs["plot"])
    assert any("epoch" in one.get("text", "") for one in outputs["train"])

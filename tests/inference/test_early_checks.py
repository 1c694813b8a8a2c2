"""What can be refused before a model is loaded is: each of these names a run that is not there."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clicooper_hpc.cli import main
from clicooper_hpc.inference.exports import export_request

CASES = {
    "ending": ("predict RUN new.npz -o out.txt", "-o out.txt: ends in '.txt'"),
    "no folder": ("predict RUN new.npz -o none/out.csv", "none: no such folder"),
    "there already": ("predict RUN new.npz -o there.csv", "there.csv: exists already"),
    "in a run": ("predict RUN new.npz -o run/out.csv", "run/out.csv: lies in a run folder"),
    "its source": ("predict RUN new.npz -o new.npz --overwrite", "is both source and target"),
    "no data": ("predict RUN none.h5 -o out.csv", "none.h5: no such file or folder"),
    "no kind": ("predict RUN new.npz -o out.csv --kind jpg", "there is no reader 'jpg'"),
    "kind unknown": ("predict RUN there.bin -o out.csv", "is of no kind that its name tells"),
    "size": ("predict RUN new.npz -o out.csv --size 3", "size 3 does not apply to npz"),
    "pyarrow": ("predict RUN new.npz -o out.parquet", "needs pyarrow, which is not installed"),
    "format": ("export RUN --to tflite -o out", "there is no format 'tflite'"),
    "ending of a format": ("export RUN --to onnx -o out.pt2", "must end in .onnx"),
    "export over a file": ("export RUN --to hf-folder -o there.csv", "exists already"),
    "export to nowhere": ("export RUN --to torch -o none/out.pt2", "none: there is no such folder"),
    "export into a run": ("export RUN --to torch -o run/out.pt2", "lies in a run folder"),
    "no card": ("export RUN --to torch -o out.pt2 --describe x", "--describe: only a model card"),
    "onnx": ("export RUN --to onnx -o out.onnx", "onnxruntime; onnx is not installed"),
    "tensorboard": ("export RUN --to tensorboard -o out", "tensorboard, which is not installed"),
    "page": ("report RUN -o none/out.html", "none: no such folder"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_before_the_run_is_opened(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("new.npz", x=np.zeros((1, 8, 8), np.float32))
    Path("there.csv").touch()
    Path("there.bin").touch()
    Path("run").mkdir()
    Path("run/run.h5").touch()
    imported = importlib.import_module

    def absent(module: str, *arguments: Any) -> Any:
        if module.startswith("pyarrow"):
            raise ImportError(module)
        return imported(module, *arguments)

    monkeypatch.setattr(importlib, "import_module", absent)
    optional = importlib.import_module("clicooper_hpc.report.trackers.optional_package")
    for place in (export_request, optional):
        monkeypatch.setattr(place, "find_spec", lambda _: None)
    before = sorted(tmp_path.rglob("*"))
    words, said = CASES[name]
    code = main(words.split())
    err = capfd.readouterr().err
    assert said in err
    assert "RUN" not in err
    assert err.count("\n") == 1
    assert code == (5 if "which is not installed" in err or name == "onnx" else 2) or (
        name == "pyarrow" and code == 2
    )
    assert sorted(tmp_path.rglob("*")) == before

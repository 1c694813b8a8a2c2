"""A table from its file to predictions of its model, by the very job that docs/data.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mpirun import mpirun

from clicooper_hpc.cli import main

pytest.importorskip("pyarrow")
pytestmark = pytest.mark.mpi

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_table_of_the_docs_is_learnt_and_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    frame = datasets.load_breast_cancer(as_frame=True).frame
    frame.to_csv("breast-cancer.csv", index=False)
    job = re.search(r"`breast-cancer\.toml`:\n\n```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert job is not None
    Path("breast-cancer.toml").write_text(job[1])
    words = ["data", "import", "csv", "breast-cancer.csv", "breast-cancer.h5", "--label", "target"]
    assert main(words) == 0
    done = mpirun(
        3,
        ["-m", "clicooper_hpc", "run", "breast-cancer.toml", "-o", "runs/breast-cancer"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    # Other order, one column more, no label.
    changed = frame.drop(columns="target").iloc[::-1, ::-1].assign(note="x")
    changed.to_csv("new.csv", index=False)
    capsys.readouterr()
    assert main(["predict", "runs/breast-cancer", "new.csv", "-o", "out.csv"]) == 0
    said = capsys.readouterr()
    assert "'note'" in said.out + said.err
    named = [line.split(",")[1] for line in Path("out.csv").read_text().splitlines()[1:]]
    truth = [str(label) for label in frame["target"].iloc[::-1]]
    right = sum(one == other for one, other in zip(named, truth, strict=True))
    # The larger class alone would be 63 %; runs of the job lie above 90.
    assert right / len(truth) > 0.8
    frame.drop(columns=["target", "mean radius"]).to_csv("less.csv", index=False)
    assert main(["predict", "runs/breast-cancer", "less.csv", "-o", "less-out.csv"]) == 2
    assert "has no column 'mean radius'" in capsys.readouterr().err

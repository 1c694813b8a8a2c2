"""The confusion matrix: on the owner's page and in `inspect` if asked for, nowhere else."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from report_example import read_page, written_run

from clicooper_hpc.cli import main
from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.confusion_file import CONFUSION_FILE, write_class_figures
from clicooper_hpc.runstore.index import RunResult
from clicooper_hpc.runstore.reader import open_run

EVIL = "<b>cat</b> $\\frac{1}{2}$"


def run_of(path: Path, counts: np.ndarray, names: list[str]) -> Path:
    """Write a finished run whose owner keeps ``counts``."""
    matrix = ConfusionMatrix(counts)
    written_run(
        path,
        accuracy=matrix.right / matrix.samples,
        results={"clean_samples": RunResult(matrix.samples, "1", "Samples")},
        card={"labels.classes": len(names)},
    )
    (path / "private").mkdir(mode=0o700)
    run_id = str(open_run(path).attrs["run_id"])
    write_class_figures(path / "private" / CONFUSION_FILE, names, matrix, run_id=run_id)
    return path


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = np.array([[72, 5, 3], [5, 4, 1], [0, 0, 0]])
    return run_of(tmp_path_factory.mktemp("few") / "run", counts, [EVIL, "dog", "a" * 40])


def page_with_classes(run: Path, out: Path) -> str:
    assert main(["report", str(run), "-o", str(out), "--classes"]) == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    return out.read_text(encoding="utf-8")


def test_a_few_classes_are_a_table(few: Path, tmp_path: Path) -> None:
    page = page_with_classes(few, tmp_path / "page.html")
    found = read_page(page)
    assert "FOR THE OWNER ALONE: this page shows counts by class" in found.text
    assert "Make one without --classes to hand on" in found.text
    # 76 right of 90, of which 80 are of the first class: no better than always naming that one.
    assert "76 of 90 clean test samples are named rightly, 84.4 %" in found.text
    assert "always answering the largest class gives 88.9 %: no better than that" in found.text
    assert "(balanced accuracy) is 65.0 %" in found.text
    table = next(part for part in page.split("<table") if 'class="confusion"' in part)
    cells = [attrs["class"] for tag, attrs in found.tags if tag == "td" and attrs.get("class")]
    assert cells.count("number right4") == 1
    assert [table.count(f">{count}</td>") for count in (72, 5, 3)] == [1, 2, 1]
    # A class without samples has no recall, one that is never right no precision above 0.
    assert "90.0 %" in table
    assert "–" in table  # noqa: RUF001
    # A name is text, in full where it is cut.
    assert "<b>cat" not in page
    assert f'title="{"a" * 40}"' in table


def test_without_being_asked_nothing_of_a_class_is_shown(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert main(["report", str(few), "-o", str(out)]) == 0
    text = read_page(out.read_text(encoding="utf-8")).text
    assert "dog" not in text
    assert "88.9" not in text
    assert "How large the largest class is, the owner alone knows (--classes)" in text
    assert main(["inspect", str(few)]) == 0
    shown = capsys.readouterr().out
    assert "dog" not in shown
    assert "88.9" not in shown


def test_inspect_shows_the_matrix_to_the_owner(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(few), "--classes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "accuracy 84.4 %, balanced 65.0 %, largest class 88.9 %, guessing 33.3 %" in lines
    dog = next(line for line in lines if line.startswith("dog"))
    assert dog.split() == ["dog", "5", "4", "1", "40.0", "%"]
    assert max(map(len, lines[lines.index("") + 1 :][:8])) < 100
    none = written_run(tmp_path / "none")
    assert main(["inspect", str(none), "--classes"]) == 0
    assert "by class: nothing is kept" in capsys.readouterr().out


def test_many_classes_are_a_plot_with_the_extremes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = 20 * np.eye(100, dtype=np.int64)
    counts[7, 9], counts[3, 4] = 30, 2
    run = run_of(tmp_path / "run", counts, [f"class {number}" for number in range(100)])
    page = page_with_classes(run, tmp_path / "page.html")
    found = read_page(page)
    labels = [attrs.get("aria-label") for tag, attrs in found.tags if tag == "svg"]
    assert "Confusion matrix of 100 classes" in labels
    # Column 9 of row 7, in orange; a square for each count that is not 0.
    assert "M9 7h1v1h-1z" in page
    assert page.count("h1v1h-1z") == 102
    assert "class 7 class 9 30 class 3 class 4 2" in found.text
    assert main(["inspect", str(run), "--classes"]) == 0
    shown = capsys.readouterr().out
    assert "lowest recall of 100 classes:\n  class 7" in shown
    assert f"{'class 7':<24} taken for {'class 9':<24}     30" in shown


def test_counts_that_do_not_fit_are_named_and_not_shown(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written_run(tmp_path / "other")
    (other / "private").mkdir(mode=0o700)
    (other / "private" / CONFUSION_FILE).write_bytes(
        (few / "private" / CONFUSION_FILE).read_bytes()
    )
    text = read_page(page_with_classes(other, tmp_path / "page.html")).text
    assert "counts by class: the counts by class are of another run" in text
    assert "dog" not in text
    assert main(["inspect", str(other), "--classes"]) == 2
    assert "confusion.h5" in capsys.readouterr().err


def test_runs_side_by_side_say_what_their_samples_tell(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better = run_of(tmp_path / "better", np.array([[89, 0], [1, 0]]), ["a", "b"])
    alike = run_of(tmp_path / "alike", np.array([[75, 14], [1, 0]]), ["a", "b"])
    assert main(["inspect", str(few), "--beside", str(better), str(alike)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "better is better than run by 14.4 points, more than chance would do" in lines
    assert "alike and run: 1.1 points apart, which 90 test samples do not tell from chance" in lines

"""How far a chain of runs is followed (whole runs: tests/runs/test_front_run.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clicooper_hpc.errors import RunFolderError
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.verification import run_chain
from clicooper_hpc.verification.run_chain import ChainLink, follow_run_chain
from clicooper_hpc.verification.run_checks import CheckResult

PASSED = [CheckResult(1, "Entries", True, ""), CheckResult(2, "Run statement", True, "")]
BROKEN = [PASSED[0], CheckResult(2, "Run statement", False, "")]


@dataclass
class ChainedRun:
    """Of a run, what is looked at to find the one behind it."""

    folder: RunFolder
    attrs: dict[str, Any]
    privacy: dict[str, Any] = field(default_factory=dict)
    front: dict[str, Any] = field(default_factory=dict)

    def job_section(self, name: str) -> dict[str, Any]:
        assert name == "front"
        return self.front


def run_id(number: int) -> str:
    return f"{number:032x}"


def card_line(number: int) -> str:
    return f"front run        {run_id(number)}, ledger 9 {'a' * 64}, network {'b' * 64}\n"


def chained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: dict[int, int | None]
) -> dict[int, ChainedRun]:
    """Return runs of which ``behind`` says which stands behind which; all of them verify."""
    runs: dict[int, ChainedRun] = {}
    for number, other in behind.items():
        folder = RunFolder(tmp_path / str(number))
        folder.path.mkdir()
        folder.index.touch()
        runs[number] = ChainedRun(folder, {"run_id": run_id(number)})
        if other is not None:
            runs[number].front = {"kind": "run", "run": str(tmp_path / str(other))}
            runs[number].privacy = {"promised": f"guarantee        none\n{card_line(other)}"}

    def opened(path: Path) -> ChainedRun:
        if not (path / "run.h5").exists():
            raise RunFolderError("the file is missing", where=str(path))
        return runs[int(path.name)]

    def judged(run: ChainedRun, end: tuple[str, int, str, str]) -> tuple[ChainLink, Any]:
        passed = run.attrs["run_id"] == end[0] and not run.attrs.get("broken")
        return ChainLink(end[0], passed, str(run.folder.path)), PASSED

    monkeypatch.setattr(run_chain, "open_whole_run", opened)
    monkeypatch.setattr(run_chain, "_verify_link", judged)
    return runs


def follow(run: ChainedRun, results: Any = PASSED, folders: tuple[Path, ...] = ()) -> Any:
    return [
        (int(link.run_id, 16) if len(link.run_id) == 32 else None, link.passed, link.detail)
        for link in follow_run_chain(run, results, folders)  # type: ignore[arg-type]
    ]


def test_it_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = chained(tmp_path, monkeypatch, {1: 2, 2: 3, 3: None})
    assert [(number, passed) for number, passed, _ in follow(runs[1])] == [(2, True), (3, True)]
    assert follow(runs[3]) == []
    runs[2].attrs["broken"] = True
    # What stands in a run that does not hold is nobody's word.
    assert [(number, passed) for number, passed, _ in follow(runs[1])] == [(2, False)]


def test_a_loop_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = chained(tmp_path, monkeypatch, {1: 2, 2: 3, 3: 1, 4: 4})
    *_, last = follow(runs[1])
    assert last == (1, False, "it stands behind itself")
    assert follow(runs[4]) == [(4, False, "it stands behind itself")]


def test_no_number_of_runs_keeps_it_going(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = chained(tmp_path, monkeypatch, {n: n + 1 for n in range(1, 12)})
    found = follow(runs[1])
    assert [passed for _, passed, _ in found] == [True] * 8 + [None]
    assert "8 runs behind each other" in found[-1][2]


def test_its_folder_is_looked_for_where_the_job_says_then_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = chained(tmp_path, monkeypatch, {1: 2, 2: None})
    runs[1].front["run"] = "/nowhere/2"
    assert follow(runs[1])[0] == (2, True, str(tmp_path / "2"))
    runs[1].front["run"] = "/nowhere/3"
    number, passed, detail = follow(runs[1])[0]
    assert (number, passed) == (2, None)
    assert "/nowhere/3" in detail
    assert follow(runs[1], folders=(tmp_path / "2",))[0][1] is True
    with pytest.raises(RunFolderError, match="missing"):
        follow(runs[1], folders=(tmp_path / "3",))
    with pytest.raises(RunFolderError, match="more folders than runs"):
        follow(runs[2], folders=(tmp_path / "2",))


def test_only_a_signed_card_names_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = chained(tmp_path, monkeypatch, {1: 2, 2: None})
    (found,) = follow(runs[1], BROKEN)
    assert (found[0], found[1]) == (None, None)
    assert "check 2 failed" in found[2]
    for card in ("", card_line(2) * 2, card_line(2) + card_line(3)):
        runs[1].privacy["promised"] = card
        (found,) = follow(runs[1])
        assert (found[0], found[1]) == (None, False)
    # A line in the card of a run that takes no front from one is no name.
    runs[2].privacy["promised"] = card_line(1)
    assert follow(runs[2]) == []

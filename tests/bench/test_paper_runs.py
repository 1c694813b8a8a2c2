"""What `make paper` runs: the sheet, its commands, and what is there already."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import paper_runs
import pytest
from paper_plan import Entry, Sheet, chosen, planned_runs, read_sheet
from paper_runs import (
    Attacking,
    Planned,
    attack_command,
    is_attacked,
    is_complete,
    is_other,
    logged,
    part_of,
    run_command,
)

from clicooper_hpc.attacks.harness.suite import SUITE
from clicooper_hpc.errors import RunFolderError, UsageError

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.mark.parametrize("name", ["paper.toml", "summed.toml"])
def test_the_shipped_sheets_are_read_and_planned_seed_by_seed(name: str) -> None:
    sheet = read_sheet(BENCH / name)
    names = [entry.name for entry in sheet.entries]
    assert len(set(names)) == len(names)
    assert {entry.yardstick for entry in sheet.entries} <= {"", *names}
    plan = planned_runs(sheet, sheet.entries, (0, 1), scale=0.5, threads=1)
    folders = [one.name for one in plan]
    assert len(set(folders)) == len(folders)
    first = [name.endswith("-seed0") for name in folders]
    assert first == sorted(first, reverse=True)
    assert {int(name[-1]) for name in folders if "-off-" in name} <= set(sheet.off_seeds)
    attacked = {one.name: one.attacking for one in plan if one.attacking is not None}
    assert set(attacked) == {
        f"{entry.name}-seed{seed}"
        for entry in sheet.entries
        for seed in (0, 1)
        if entry.attacked is None or seed in entry.attacked
    }
    for entry in sheet.entries:
        assert attacked[f"{entry.name}-seed0"].scale == 0.5 * entry.scale
    parts = [part_of(plan, f"{number}/5") for number in range(1, 6)]
    assert sorted(one.name for part in parts for one in part) == sorted(folders)
    with pytest.raises(UsageError, match="parts are 1/2 to 2/2"):
        part_of(plan, "3/2")


@pytest.mark.parametrize("name", ["paper.toml", "summed.toml"])
def test_every_run_of_the_sheets_can_be_started(name: str) -> None:
    sheet = read_sheet(BENCH / name)
    plan = planned_runs(sheet, sheet.entries, sheet.off_seeds, scale=1, threads=1)
    for one in plan:
        replace(one, job=BENCH.parent / one.job).check()
    # One name a class already: no run without label map to compare with.
    assert not [one.name for one in plan if "moments" in one.name and "no-map" in one.name]


def test_a_job_outside_the_sheet_becomes_an_entry() -> None:
    mine = Entry("mine", Path("jobs/mine.toml"))
    two = Entry("mine-2", Path("jobs/mine.toml"), set=("privacy.epsilon=2.0",))
    sheet = Sheet((mine, two), ('labels.method="none"',), ("trainer 1",), 4, 2, 1, (3,))
    assert chosen(sheet, []) == (mine, two)
    assert chosen(sheet, ["mine-2"]) == (two,)
    assert chosen(sheet, ["jobs/mine.toml"]) == (mine, two)
    assert chosen(sheet, ["mine", "mine"]) == (mine,)
    (other,) = chosen(sheet, ["elsewhere/digits.toml"])
    assert (other.name, other.job) == ("digits", Path("elsewhere/digits.toml"))
    plan = planned_runs(sheet, (two, other), (3,), scale=1, threads=2)
    assert [one.name for one in plan] == [
        "mine-2-seed3",
        "mine-2-no-map-seed3",
        "digits-seed3",
        "digits-no-map-seed3",
        "digits-off-same-settings-seed3",
    ]
    assert plan[1].overrides == (
        "privacy.epsilon=2.0",
        'labels.method="none"',
        "training.threads=2",
        "training.seed=3",
    )
    later = planned_runs(sheet, (other,), (4,), scale=1, threads=1)
    assert [one.name for one in later] == ["digits-seed4", "digits-no-map-seed4"]
    command = run_command(plan[0], Path("runs"), "srun --ntasks={ranks}")
    assert command[:5] == ["srun", "--ntasks=4", "clicooper", "run", "jobs/mine.toml"]


def test_the_attack_command_says_what_was_asked() -> None:
    attacking = Attacking(("trainer 1", "outsider"), Path("p.h5"), ("merge",), 2, 0.5, 3)
    assert attack_command(attacking, Path("runs/a")) == [
        *("mpiexec", "-n", "3", "clicooper", "attack", "runs/a", "--party", "trainer 1"),
        *("outsider", "--seeds", "2", "--only", "merge", "--public", "p.h5", "--scale", "0.5"),
        "--overwrite",
    ]


def test_findings_of_some_attacks_are_not_taken_for_those_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``clicooper attack --only merge`` left stood for all attacks: rows were blank."""
    about = {"run_id": "r", "scale": 1.0, "seeds": 1, "parties": "outsider, trainer 1"}

    def found(names: str, only: tuple[str, ...]) -> bool:
        record = SimpleNamespace(attributes={**about, "attacks": names})
        monkeypatch.setattr(paper_runs, "read_attack_record", lambda _: record)
        monkeypatch.setattr(paper_runs, "open_run", lambda _: SimpleNamespace(attrs=about))
        return is_attacked(Attacking(("outsider",), None, only), tmp_path)

    assert found("merge", ("merge",))
    assert not found("merge", ("merge", "decoder"))
    assert not found("merge", ())
    assert found(", ".join(attack.name for attack in SUITE), ())


def test_of_the_logs_the_last_success_counts(tmp_path: Path) -> None:
    def entry(date: str, code: int, seconds: float) -> str:
        return json.dumps(
            {"date": date, "name": "a", "step": "run", "code": code, "seconds": seconds}
        )

    (tmp_path / "log-2-of-2.jsonl").write_text(entry("2026-01-02", 0, 5.0) + "\n")
    (tmp_path / "log.jsonl").write_text(
        entry("2026-01-01", 0, 1.0) + "\n" + entry("2026-01-03", 1, 9.0) + "\n"
    )
    assert logged(tmp_path)["a", "run"]["seconds"] == 5.0
    assert logged(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("status", "job", "complete", "other"),
    [
        ("complete", "mine", True, False),
        ("incomplete", "mine", False, False),
        ("incomplete", "another", False, True),
        (None, "", False, False),
    ],
)
def test_a_killed_run_goes_on_and_another_jobs_makes_room(
    monkeypatch: pytest.MonkeyPatch, status: str | None, job: str, complete: bool, other: bool
) -> None:
    """A run that a time limit had killed was made anew, which released its samples twice."""
    planned = Planned("a-seed0", Path("a.toml"), ())

    def opened(path: Path) -> SimpleNamespace:
        if status is None:
            raise RunFolderError("there is no run", where=str(path))
        return SimpleNamespace(status=status, attrs={"resolved_job": job})

    monkeypatch.setattr(paper_runs, "open_run", opened)
    loaded = SimpleNamespace(canonical=lambda: "mine")
    monkeypatch.setattr(paper_runs, "load_job", lambda *_: loaded)
    assert is_complete(planned, Path("runs")) == complete
    assert is_other(planned, Path("runs")) == other
    assert run_command(planned, Path("runs"))[-1] == "--resume"

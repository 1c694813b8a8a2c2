"""``--json``: one JSON value on standard output, with the keys that docs/json.md names."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runstore_example as example

from clicooper_hpc.cli import main
from clicooper_hpc.commands.parser import build_parser
from clicooper_hpc.runstore.index import RunResult

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "json.md").read_text()
#: Commands that tell nothing but what they write into a run folder, or whose answer is no fact.
WITHOUT = {"run", "resume", "schema", "completion", "watch"}
Say = Callable[..., Any]


def leaves(parser: argparse.ArgumentParser, at: str = "") -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                found |= leaves(below, f"{at} {name}".strip())
    return found or {at: parser}


def documented(command: str) -> set[str]:
    """Return the words in backticks of a command's row."""
    (row,) = re.findall(rf"^\| `{command}[^|`]*` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    return set(re.findall(r"`([a-z_]+)`", row))


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """Run a command with --json and return what it says."""

    def call(*arguments: str | Path, code: int = 0) -> Any:
        capfd.readouterr()
        assert main([*map(str, arguments), "--json"]) == code
        out, err = capfd.readouterr()
        assert err == ""
        return json.loads(out)

    return call


def test_every_command_that_tells_facts_has_it_and_stands_in_the_page() -> None:
    for command, parser in leaves(build_parser()).items():
        has = "--json" in parser._option_string_actions
        assert has == (command not in WITHOUT), command
        if has:
            assert documented(command), command


def test_facts_of_a_run(say: Say, tmp_path: Path) -> None:
    folder = example.finished_run(tmp_path / "run").path
    facts = say("inspect", folder)
    assert {"folder", "saved_step", "exit_code", "job", "ranks", "results"} <= set(facts)
    assert documented("inspect") >= {"folder", "saved_step", "exit_code", "job", "ranks", "results"}
    assert facts["status"] == "complete"
    assert facts["run_id"] == example.RUN_ID
    assert facts["job"] == example.JOB
    assert facts["results"]["clean_accuracy"] == {"value": 0.875, "units": "1"}
    last = facts["ranks"][2]
    assert (last["rank"], last["host"], last["file"], last["steps"]) == (2, "node2", "read", 8)
    # step_s is 3 and 0.01 more each step; 32 rows a step.
    assert last["samples_per_s"] == pytest.approx(8 * 32 / (8 * 3 + 0.28))
    assert last["loss"] == 2.25
    (folder / "rank-001.h5").unlink()
    beside = say("inspect", folder, "--beside", folder)["beside"]
    assert [one["differences"] for one in beside] == [[]]
    assert beside[0]["ranks"][1] == {"rank": 1, "host": "node1", "file": "missing"}


def test_facts_of_a_run_that_is_not_done(say: Say, tmp_path: Path) -> None:
    folder, writers = example.start_run(tmp_path / "run")
    for writer in writers:
        writer.close()
    facts = say("inspect", folder.path, code=2)
    assert (facts["status"], facts["exit_code"], facts["results"]) == ("incomplete", 2, {})


def test_facts_of_a_plan(say: Say) -> None:
    facts = say("plan", ROOT / "jobs" / "digits.toml", "--ranks", "4")
    names = set(facts) | set(facts["segments"][0]) | set(facts["privacy"]) | set(facts["data"])
    assert names | set(facts["release"]) <= documented("plan")
    assert [one["rank"] for one in facts["segments"]] == [1, 2, 3]
    layers = [(one["first_layer"], one["last_layer"]) for one in facts["segments"]]
    assert layers[0][0] == 0
    assert all(a[1] + 1 == b[0] for a, b in pairwise(layers))
    assert sum(one["work"] for one in facts["segments"]) == pytest.approx(1)
    assert facts["privacy"]["epsilon"] == 8
    assert facts["privacy"]["sigma"] == pytest.approx(1.200458, abs=1e-6)
    assert 0 < facts["bubble"] < 1


def test_facts_of_files_that_were_written(say: Say, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        x_train=np.zeros((3, 4), np.float32),
        y_train=np.array([0, 1, 1]),
        x_test=np.zeros((2, 4), np.float32),
        y_test=np.array([0, 1]),
    )
    facts = say("data", "import", "npz", tmp_path / "a.npz", tmp_path / "a.h5")
    assert facts["rows"] == {"train": 3, "test": 2}
    assert facts["row_shape"] == [4]
    assert set(facts) == documented("data import")
    facts = say("keys", "new", tmp_path / "key.pem")
    assert re.fullmatch("[0-9a-f]{64}", facts["public_key"])
    assert set(facts) == documented("keys new")
    facts = say("init", tmp_path / "mine")
    assert {Path(one).name for one in facts["files"]} == {
        "job.toml", "job.sbatch", "job.schema.json", "glyphs-conv24.safetensors"
    }  # fmt: skip
    assert set(facts) == documented("init")
    facts = say("submit", ROOT / "jobs" / "digits.toml", "-o", tmp_path / "run", "--dry-run")
    assert facts["script_text"].startswith("#!")
    assert facts["job_id"] is None
    assert set(facts) == documented("submit") - {"sbatch"}
    facts = say("export", example.finished_run(tmp_path / "run").path, "--to", "csv", "-o",
                tmp_path / "out")  # fmt: skip
    assert set(facts) == documented("export") - {"off"}
    assert facts["steps"] == 8


def test_numbers_that_json_lacks_are_null(say: Say, tmp_path: Path) -> None:
    results = {"clean_accuracy": RunResult(float("nan"), "1", "Accuracy")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(example, "RESULTS", results)
        folder = example.finished_run(tmp_path / "run").path
    assert say("inspect", folder)["results"]["clean_accuracy"]["value"] is None


def test_an_error_is_no_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path), "--json"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("clicooper: ")

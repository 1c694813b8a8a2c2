"""The schema of the job file says of every key what the job file's own loader says."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from clicooper_hpc.cli import main
from clicooper_hpc.config.job_schema import job_schema, job_schema_text
from clicooper_hpc.config.reference import reference_job

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.toml"))
GOOD = '[data]\npath = "digits"\n'


@pytest.fixture(scope="module")
def mistakes() -> Any:
    """Return a function: messages of a validator of JSON Schema on the text of a job."""
    pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator: Any = importlib.import_module("jsonschema").Draft7Validator
    validator.check_schema(job_schema())
    checker = validator(job_schema())
    return lambda text: [one.message for one in checker.iter_errors(tomllib.loads(text))]


def test_the_page_is_generated_from_the_models() -> None:
    assert (ROOT / "docs" / "job.schema.json").read_text() == job_schema_text(), "run: make docs"


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_every_shipped_job_is_valid(job: Path, mistakes: Any) -> None:
    assert mistakes(job.read_text()) == []


def test_the_commented_job_is_valid(mistakes: Any) -> None:
    starter = tomllib.loads((ROOT / "jobs" / "digits.toml").read_text())
    assert mistakes(reference_job(starter)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "[training]\nlr = 0.1\n", "'lr' was unexpected"),
        (GOOD + "[trainer]\n", "'trainer' was unexpected"),
        (GOOD + "folder = 'x'\n", "'folder' was unexpected"),
        (GOOD + '[training]\noptimizer = "adam"\n', "'adam' is not one of"),
        (GOOD + "[training]\nepochs = 0\n", "0 is less than the minimum"),
        (GOOD + "[training]\nbetas = [0.9, 1.5]\n", "1.5 is greater than"),
        (GOOD + "[front.dp_sgd]\ndelta = 2\n", "2 is greater than"),
        (GOOD + '[pipeline]\npartition = "half"\n', "not valid under any"),
        ("[data]\npath = 3\n", "3 is not of type 'string'"),
        ("[training]\nepochs = 3\n", "not valid under any"),
    ],
)
def test_mistakes_are_seen(text: str, said: str, mistakes: Any) -> None:
    assert any(said in one for one in mistakes(text)), mistakes(text)


def test_a_job_with_a_base_need_not_be_whole(mistakes: Any) -> None:
    assert mistakes('extends = "base.toml"\n[training]\nepochs = 3\n') == []


def test_every_key_has_a_meaning() -> None:
    for name, section in job_schema()["properties"].items():
        assert section["description"], name
        for key, about in section.get("properties", {}).items():
            assert about["description"], f"{name}.{key}"


def test_the_command_prints_or_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == job_schema()
    out = tmp_path / "job.schema.json"
    assert main(["schema", "-o", str(out)]) == 0
    assert out.read_text() == job_schema_text()
    assert "#:schema job.schema.json" in capsys.readouterr().out
    assert main(["schema", "-o", str(out)]) == 2
    assert main(["init", str(tmp_path / "mine")]) == 0
    first = (tmp_path / "mine" / "job.toml").read_text().splitlines()[0]
    assert first == "#:schema job.schema.json"
    assert (tmp_path / "mine" / "job.schema.json").read_text() == job_schema_text()

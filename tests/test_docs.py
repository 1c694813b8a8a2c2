"""What the README and the docs say is what the program does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from clicooper_hpc.cli import main
from clicooper_hpc.commands.init import init_sbatch_script
from clicooper_hpc.commands.parser import build_parser
from clicooper_hpc.config.load_job import load_job

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_readme_shows_the_real_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert build_parser().format_help().strip() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_parse(page: Path) -> None:
    parser = build_parser()
    for line in page.read_text().splitlines():
        command = re.match(r"^(?:\$ )?(?:mpirun -n \d+ |srun [^c]*)?clicooper ([a-z].*)$", line)
        if command is None:
            continue
        words = command.group(1).split("#")[0].split()
        if any(word.isupper() for word in words):
            continue  # a pattern such as KIND, not a command
        parser.parse_args(words)


def test_init_writes_the_shipped_sbatch_script() -> None:
    assert init_sbatch_script() == (ROOT / "slurm" / "single-node.sbatch").read_text()


@pytest.mark.parametrize("script", sorted((ROOT / "slurm").glob("*.sbatch")), ids=lambda s: s.name)
def test_slurm_scripts_are_valid_shell_and_ask_for_what_jobs_need(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=20)
    text = script.read_text()
    assert "--kill-on-bad-exit=1" in text
    assert "OMP_NUM_THREADS" in text
    for job in re.findall(r"jobs/[\w-]+\.toml", text):
        assert (ROOT / job).exists()


def test_init_then_plan_is_a_working_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    script = Path("mine/job.sbatch").read_text()
    assert "sbatch job.sbatch" in script
    assert "slurm/" not in script
    mine, shipped = (
        load_job(path).model_dump() for path in (Path("mine/job.toml"), ROOT / "jobs/digits.toml")
    )
    # Its own copy of the front; all else is the job that the docs have figures of.
    fronts = [job["front"].pop("weights") for job in (mine, shipped)]
    assert fronts[0].read_bytes() == fronts[1].read_bytes()
    assert mine == shipped
    assert main(["plan", "mine/job.toml", "--ranks", "4"]) == 0
    out = capsys.readouterr().out
    assert "bubble" in out
    assert "privacy: epsilon" in out


def test_plan_of_the_first_job_shows_cuts_grid_and_epsilon(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", str(ROOT / "jobs" / "digits.toml")]) == 0
    out = capsys.readouterr().out
    for part in ("4 ranks", "segment 3", "owner", "S0", "epsilon 8", "no deadlock"):
        assert part in out


def test_the_readme_begins_with_jobs_that_need_no_import() -> None:
    readme = (ROOT / "README.md").read_text()
    jobs = re.findall(r"^.*clicooper (?:run|plan|submit) (\S+\.toml)", readme, re.MULTILINE)
    assert len(jobs) >= 3
    assert {load_job(ROOT / job).data.path for job in jobs} == {"digits"}
    # And with the environment that these commands need.
    assert readme.index(".venv/bin/activate") < readme.index("clicooper run")

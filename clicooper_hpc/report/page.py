"""The page: every part of every run, put into the template of the package."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clicooper_hpc.errors import EnvironmentUnfitError, RunFolderError
from clicooper_hpc.report.attack_findings import read_attack_findings_of
from clicooper_hpc.report.checked_run import check_run
from clicooper_hpc.report.class_table import read_class_table
from clicooper_hpc.report.computed_step import compute_step
from clicooper_hpc.report.figures.curve_figures import accuracy_figure, loss_figure
from clicooper_hpc.report.figures.pipeline_figures import MOST_BARS, step_figure, time_figure
from clicooper_hpc.report.figures.privacy_accuracy_figure import privacy_accuracy_figure
from clicooper_hpc.report.promise import read_promise
from clicooper_hpc.report.proof_grid import read_proof_grid
from clicooper_hpc.report.public_text import PublicText
from clicooper_hpc.report.run_reading import RunReading, open_reading
from clicooper_hpc.report.several_runs import compare_runs
from clicooper_hpc.report.step_times import kept_rows_words, read_edge_traffic, read_rank_times
from clicooper_hpc.report.verdict import read_verdict
from clicooper_hpc.runstore.curves import collect_curves

if TYPE_CHECKING:
    import jinja2

__all__ = ["PAGE_MARK", "report_page"]

#: In the head of every page, by which one is known again.
PAGE_MARK: Final = b'<meta name="generator" content="clicooper report">'


def report_page(paths: Sequence[Path], *, attacks: bool = False, classes: bool = False) -> str:
    """Return the page of the runs in ``paths`` as HTML.

    Parameters
    ----------
    attacks
        Also show what attacks found.
    classes
        Also show the confusion matrix. It and what attacks found are all that is read from private
        folders: such a page is for the owner alone.

    Raises
    ------
    EnvironmentUnfitError
        matplotlib or Jinja2 is not installed.
    RunFolderError
        None of the folders holds a run that can be opened; of several, the others are named on the
        page.
    """
    template = _page_template()
    runs: list[dict[str, Any]] = []
    refused: list[tuple[str, str]] = []
    error = None
    for path in paths:
        try:
            reading = open_reading(path)
        except RunFolderError as problem:
            error = error or problem
            public = PublicText.of_folder(path)
            refused.append((public.line(path.resolve().name), public.line(problem.what)))
            continue
        try:
            parts = _run_parts(reading, f"run{len(runs) + 1}", attacks, classes)
        # A run that a stranger wrote may hold what nobody thought of: others have their page.
        except Exception as problem:
            if len(paths) == 1:
                raise
            why = f"a part of it has a form this program does not know ({type(problem).__name__})"
            refused.append((reading.name, why))
            error = error or RunFolderError(why, where=str(path), remedy="Run `clicooper verify`.")
            continue
        runs.append(parts)
    if error is not None and not runs:
        raise error
    together = None
    if len(runs) > 1:
        together = compare_runs([(run["reading"], run["verdict"], run["promise"]) for run in runs])
    return template.render(
        mark=PAGE_MARK.decode(),
        runs=runs,
        refused=refused,
        attacks=attacks,
        classes=classes,
        together=together,
        plot=privacy_accuracy_figure(together.points, "together") if together else "",
        most_bars=MOST_BARS,
    )


def _page_template() -> jinja2.Template:
    for package in ("jinja2", "matplotlib"):
        if find_spec(package) is None:
            raise EnvironmentUnfitError(
                f"the page needs {package}, which is not installed",
                where="report",
                remedy='Install it: pip install "clicooper-hpc[report]"',
            )
    import jinja2

    places = jinja2.PackageLoader("clicooper_hpc", "templates")
    # Whatever a run says is text of a stranger: escaped unless it was marked as made here.
    pages = jinja2.Environment(
        loader=places, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return pages.get_template("report.html")


def _run_parts(reading: RunReading, key: str, attacks: bool, classes: bool) -> dict[str, Any]:
    """Return what the template shows of one run; ``key`` begins the ids of its figures."""
    run = reading.run
    by_class = read_class_table(reading, f"{key}-classes") if classes else None
    verdict = read_verdict(reading, None if by_class is None else by_class.majority_share)
    training = {
        rank: frame
        for rank in run.ranks[1:]
        if (frame := reading.table("training", rank)) is not None
    }
    curves = collect_curves(training, reading.table("evaluation", 0))
    times = read_rank_times(reading)
    step = compute_step(reading, times) if times else None
    return {
        "key": key,
        "name": reading.name,
        "reading": reading,
        "about": _about(reading),
        "verdict": verdict,
        "checked": check_run(reading),
        "promise": read_promise(reading),
        "loss": loss_figure(curves, f"{key}-loss"),
        "accuracy": accuracy_figure(curves, verdict.levels, f"{key}-accuracy"),
        "averaged": curves.averaged,
        "released": "released" in curves.accuracies and run.privacy.get("private") is True,
        "times": time_figure(times, f"{key}-times"),
        "ranks": len(times),
        "step": step_figure(step, f"{key}-step") if step else "",
        "bubble": step.bubble if step else None,
        "edges": read_edge_traffic(reading),
        "kept_rows": kept_rows_words(reading),
        "grid": read_proof_grid(reading),
        "attacks": read_attack_findings_of(reading) if attacks else None,
        "by_class": by_class,
        "gaps": reading.gaps,
    }


def _about(reading: RunReading) -> str:
    run = reading.run
    trainers, hosts = len(run.ranks) - 1, len(set(run.hosts))
    return reading.public.line(
        f"run {run.attrs['run_id']}, begun {run.attrs['created']}, 1 owner, {trainers} "
        f"trainer{'s' * (trainers != 1)} on {hosts} host{'s' * (hosts != 1)}, "
        f"clicooper-hpc {run.attrs['creator_version']}"
    )

"""Results of a run: as figures of its index, and as the last lines of the owner's log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.explained_results import ResultFacts, explain_results
from clicooper_hpc.owner.final_scores import FinalScores
from clicooper_hpc.runstore.confusion import ConfusionMatrix
from clicooper_hpc.runstore.index import RunResult
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES

__all__ = ["index_results", "log_results"]

_log = logging.getLogger(__name__)

#: Figures that show what the trainers have added, and the line they are told in.
_COMPARED = {
    ("front_accuracy", "network_accuracy"): (
        "of its parts: the front's class scores alone, without trainers, %.2f %%; the trainers' "
        "network alone %.2f %%"
    ),
    ("class_sums_accuracy",): "the released class sums alone, without trainers: %.2f %%",
    ("moments_accuracy",): "a linear model of all released moments, without trainers: %.2f %%",
    ("gradients_accuracy",): "the same after the rounds of gradients, without trainers: %.2f %%",
}


def index_results(final: FinalScores) -> dict[str, RunResult]:
    """Return the results by name, with units and long names."""
    clean, released = final.clean, final.released
    model = clean.model
    figures: dict[str, float | int] = {
        "clean_accuracy": model.accuracy,
        "clean_loss": model.loss,
        "clean_samples": model.samples,
        "wall_s": final.wall_s,
    }
    if clean.front is not None and clean.network is not None:
        figures["front_accuracy"] = clean.front.accuracy
        figures["network_accuracy"] = clean.network.accuracy
    if clean.class_sums is not None:
        figures["class_sums_accuracy"] = clean.class_sums.accuracy
    if clean.moments is not None:
        figures["moments_accuracy"] = clean.moments.accuracy
    if clean.gradients is not None:
        figures["gradients_accuracy"] = clean.gradients.accuracy
    if released.samples:
        figures["released_accuracy"] = released.accuracy
        figures["released_samples"] = released.samples
    return {name: RunResult(value, *RESULT_FIGURES[name]) for name, value in figures.items()}


def log_results(
    job: Job,
    results: Mapping[str, RunResult],
    confusion: ConfusionMatrix,
    card: Mapping[str, Any],
) -> None:
    """Log accuracies beside what they are to be compared with, and what to make of them.

    ``card``: entries of the privacy card.
    """
    figures = {name: float(result.value) for name, result in results.items()}
    check = card.get("check.rdp")
    facts = ResultFacts(
        figures,
        classes=len(confusion.counts),
        majority_share=confusion.majority_share,
        private=job.privacy.enabled,
        mode=job.release.mode,
        average_rows=job.training.average_rows,
        cross_check=None if check is None else float(check),
    )
    verdict, *others = explain_results(facts)
    if verdict.is_warning:
        # With --quiet too: a run that learnt nothing ends with exit code 0.
        _log.warning("WARNING: %s", verdict.text)
    else:
        _log.info("%s", verdict.text)
    for names, text in _COMPARED.items():
        if all(name in figures for name in names):
            _log.info(text, *(100 * figures[name] for name in names))
    for remark in others:
        _log.info("%s", remark.text)

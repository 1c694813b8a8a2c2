"""Results of a run: the figures it ends with, as the index stores and the log shows them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from clicooper_hpc.owner.final_scores import FinalScores
from clicooper_hpc.runstore.index import Result

__all__ = ["log_results", "results_of_scores"]

_log = logging.getLogger(__name__)


def results_of_scores(final: FinalScores) -> dict[str, Result]:
    """Return the results by name, with units and long names."""
    clean, released = final.clean, final.released
    model = clean.model
    results = {
        "clean_accuracy": Result(model.accuracy, "1", "Delivered model on clean held-out samples"),
        "clean_loss": Result(model.loss, "nat", "Cross-entropy on clean held-out samples"),
        "clean_samples": Result(model.samples, "1", "Clean held-out samples"),
        "wall_s": Result(final.wall_s, "s", "Wall time of the run, from the agreed job on"),
    }
    if clean.front is not None and clean.network is not None:
        results["front_accuracy"] = Result(
            clean.front.accuracy, "1", "Class scores of the front alone, without trainers"
        )
        results["network_accuracy"] = Result(
            clean.network.accuracy, "1", "Trainers' network alone, without the front's scores"
        )
    if released.samples:
        results["released_accuracy"] = Result(
            released.accuracy,
            "1",
            "Released validation samples, by the logits the last trainer sent",
        )
        results["released_samples"] = Result(released.samples, "1", "Released validation samples")
    return results


def log_results(results: Mapping[str, Result]) -> None:
    """Log the accuracy of the delivered model and, where the front has scores, of its parts."""
    accuracy = float(results["clean_accuracy"].value)
    _log.info("delivered model, clean held-out samples: %.2f %%", 100 * accuracy)
    if "front_accuracy" in results:
        front, network = (
            100 * float(results[name].value) for name in ("front_accuracy", "network_accuracy")
        )
        _log.info(
            "of its parts: the front's class scores alone, without trainers, %.2f %%; the "
            "trainers' network alone %.2f %%",
            front,
            network,
        )

"""The figures a run may end with: name, units and long name, as ``run.h5`` has them in results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["RESULT_FIGURES"]

#: Name to units and long name. No other figure stands under ``results`` of a run.
RESULT_FIGURES: Final[Mapping[str, tuple[str, str]]] = {
    "clean_accuracy": ("1", "Delivered model on clean held-out samples"),
    "clean_loss": ("nat", "Cross-entropy on clean held-out samples"),
    "clean_samples": ("1", "Clean held-out samples"),
    "wall_s": ("s", "Wall time of the run, from the agreed job on"),
    "front_accuracy": ("1", "Class scores of the front alone, without trainers"),
    "network_accuracy": ("1", "Trainers' network alone, without the front's scores"),
    "class_sums_accuracy": ("1", "Released class sums alone, without trainers"),
    "moments_accuracy": ("1", "Linear model of all released moments, without trainers"),
    "gradients_accuracy": ("1", "Linear model after rounds of gradients, without trainers"),
    "released_accuracy": ("1", "Released validation samples, by the logits the last trainer sent"),
    "released_samples": ("1", "Released validation samples"),
}

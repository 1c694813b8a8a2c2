"""`Classifier`: all that a run delivers and its owner keeps, as one module: raw rows to classes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.fronts.operations import TEMPERATURE
from clicooper_hpc.owner.class_pooling import ClassPooling, class_scores_opinion, pool_opinions
from clicooper_hpc.owner.clean_rows import job_clean_rows
from clicooper_hpc.privacy.label_map import LabelMap

__all__ = ["Classifier", "scores_temperature"]


class Classifier(nn.Module):
    """Maps raw rows float32 [n, *input_shape] to class probabilities float32 [n, K].

    Made of the parts that the owner's own evaluation is made of, so its numbers are those. In
    evaluation mode, without gradients of weights.

    Parameters
    ----------
    job
        Of the run.
    front, network, label_map
        Its front, the delivered segments one after the other, and its secret label map.
    class_names
        Of the K classes, in order.

    Attributes
    ----------
    input_shape
        Shape of one raw row.
    class_names
        As given.
    """

    def __init__(
        self,
        job: Job,
        front: Front,
        network: nn.Sequential,
        label_map: LabelMap,
        class_names: Sequence[str],
    ) -> None:
        super().__init__()
        self.input_shape = front.input_shape
        self.class_names = tuple(class_names)
        self.clean_rows = job_clean_rows(job, front)
        self.network = network
        self.pooling = ClassPooling(label_map)
        self.temperature = scores_temperature(front)
        self.requires_grad_(False).eval()

    def forward(self, raw: Tensor) -> Tensor:
        """Return the probabilities of the classes."""
        rows = self.clean_rows(raw)
        classes: Tensor = self.pooling(self.network(rows).float())
        if self.temperature is not None:
            classes = pool_opinions(classes, class_scores_opinion(rows, self.temperature))
        return classes.float()


def scores_temperature(front: Front) -> float | None:
    """Return the temperature of the class scores that ``front`` ends in; None if it does not."""
    return None if front.origin.class_sums is None else TEMPERATURE

"""What the privacy card and `clicooper plan` say of sums over all samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["MomentsSummary"]


@dataclass(frozen=True, slots=True)
class MomentsSummary:
    """Moments that were released together instead of rows (`clicooper_hpc.privacy.moments`).

    ``samples``: how many samples they are of; ``rows``: public rows sent in their place;
    ``sums_alone``: class sums without second moment and sizes; ``rounds``: sums of gradients
    besides, which ``gradient_share`` of mu^2 pays for.
    """

    samples: int
    rows: int
    sums_alone: bool = False
    rounds: int = 0
    gradient_share: float = 0.0

    def what(self) -> str:
        """Return what was released, in words."""
        parts = "class sums" if self.sums_alone else "class sums, second moment and class sizes"
        rounds = f", {self.rounds} sums of gradients" if self.rounds else ""
        return f"{parts}{rounds} of {self.samples} samples"

    def noise(self, spec: ReleaseSpec) -> str:
        """Return the noise of each part of ``spec``, the whole promise solved for one release."""
        moments = spec.sigma / math.sqrt(1 - self.gradient_share)
        each = spec.sigma * math.sqrt(self.rounds / self.gradient_share)
        return f"sigma {moments:.6g} for moments, {each:.6g} for each of {self.rounds} rounds"

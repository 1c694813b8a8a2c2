"""`OpenedRelease`: a release that is ready to leave, whatever it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.owner.evaluation import HeldOutSamples
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["OpenedRelease"]


@dataclass(frozen=True, slots=True, eq=False)
class OpenedRelease:
    """The gate, and what goes with it.

    Attributes
    ----------
    spec
        The mechanism; None with privacy off.
    gate
        The only way out.
    classes
        int64 [rows of the training split that leave]: the class each will be named for.
    held_out
        For the owner's evaluation.
    validation_samples
        How many are released for validation.
    """

    spec: ReleaseSpec | None
    gate: ReleaseGate
    classes: NDArray[np.int64]
    held_out: HeldOutSamples
    validation_samples: int = 0

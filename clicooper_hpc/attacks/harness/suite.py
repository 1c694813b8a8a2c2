"""All attacks of `clicooper attack`, in the order of its table."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.attacks.completion.attack import COMPLETION
from clicooper_hpc.attacks.extraction.attack import EXTRACTION
from clicooper_hpc.attacks.harness.registry import Attack
from clicooper_hpc.attacks.inversion.decoder import DECODER
from clicooper_hpc.attacks.inversion.optimise import OPTIMISE
from clicooper_hpc.attacks.labels.clustering import CLUSTERING
from clicooper_hpc.attacks.labels.merge import MERGE
from clicooper_hpc.attacks.membership.attack import MEMBERSHIP
from clicooper_hpc.attacks.property import PROPERTY

__all__ = ["SUITE"]

SUITE: Final[tuple[Attack, ...]] = (
    CLUSTERING,
    MERGE,
    COMPLETION,
    DECODER,
    OPTIMISE,
    PROPERTY,
    MEMBERSHIP,
    EXTRACTION,
)

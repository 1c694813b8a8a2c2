"""All attacks of `clicooper attack`, in the order of its table."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.attacks.completion import COMPLETION
from clicooper_hpc.attacks.extraction import EXTRACTION
from clicooper_hpc.attacks.inversion_decoder import DECODER
from clicooper_hpc.attacks.inversion_optimise import OPTIMISE
from clicooper_hpc.attacks.labels_clustering import CLUSTERING
from clicooper_hpc.attacks.labels_merge import MERGE
from clicooper_hpc.attacks.membership import MEMBERSHIP
from clicooper_hpc.attacks.property import PROPERTY
from clicooper_hpc.attacks.registry import Attack

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

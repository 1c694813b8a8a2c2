"""All attacks of `clicooper attack`, in the order of its table."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.attacks.completion.completion_attack import COMPLETION
from clicooper_hpc.attacks.dp_audit.dp_audit_attack import DP_AUDIT
from clicooper_hpc.attacks.extraction.extraction_attack import EXTRACTION
from clicooper_hpc.attacks.harness.attack import Attack
from clicooper_hpc.attacks.inversion.decoder_attack import DECODER
from clicooper_hpc.attacks.inversion.diffusion_attack import DIFFUSION
from clicooper_hpc.attacks.inversion.optimise_attack import OPTIMISE
from clicooper_hpc.attacks.labels.clustering_attack import CLUSTERING
from clicooper_hpc.attacks.labels.merge_attack import MERGE
from clicooper_hpc.attacks.membership.membership_attack import MEMBERSHIP
from clicooper_hpc.attacks.property_attack import PROPERTY

__all__ = ["SUITE"]

SUITE: Final[tuple[Attack, ...]] = (
    CLUSTERING,
    MERGE,
    COMPLETION,
    DECODER,
    OPTIMISE,
    DIFFUSION,
    PROPERTY,
    MEMBERSHIP,
    EXTRACTION,
    DP_AUDIT,
)

"""All targets, by name, and the module each comes from."""

from __future__ import annotations

from collections.abc import Mapping

import fuzz_config
import fuzz_files
import fuzz_private
import fuzz_provenance
import fuzz_runs
import fuzz_tensors
import fuzz_wire
from fuzz_target import FuzzTarget

FAMILIES = (
    fuzz_provenance,
    fuzz_wire,
    fuzz_config,
    fuzz_tensors,
    fuzz_private,
    fuzz_files,
    fuzz_runs,
)
TARGETS: Mapping[str, FuzzTarget] = {
    target.name: target for family in FAMILIES for target in family.TARGETS
}
FAMILY_OF: Mapping[str, str] = {
    target.name: family.__name__ for family in FAMILIES for target in family.TARGETS
}

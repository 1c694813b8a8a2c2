"""Section on which owner and trainers agree how work is proved.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clicooper_hpc.config.base import Section

__all__ = ["ProvenanceSection"]

PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ProvenanceSection(Section):
    """Proofs, marks and the ledger, see docs/provenance.md."""

    enabled: bool = True
    """Prove every training stage: signed proofs, hand-offs signed by both sides, a ledger."""

    stages: int = Field(default=5, ge=1, le=2000)
    """Training stages the run is divided into, as even as can be. Each ends in one proof per
    segment and one checkpoint, and is what `clicooper audit` replays."""

    marks: Literal["auto", "required", "off"] = "auto"
    """Marks in the weights. `auto`: segments too small to carry one go without, and the run says
    so; `required`: such a run is refused."""

    mark_every_steps: int = Field(default=10, ge=1)
    """Put the mark in every so many steps of a stage, and at its end."""

    mark_distortion: float = Field(default=0.004, gt=0, le=0.05)
    """Most of the weights' energy one mark may change, as a fraction."""

    identities: str | None = None
    """Ed25519 keys of the ranks: PEM files, with `{rank}` for the rank, such as
    `"keys/rank-{rank}.pem"` (made by `clicooper keys new`; passwords come from the environment
    variable `CLICOOPER_KEY_PASSWORD`). Unlike other paths, relative to the job file's folder
    wherever it is set. Default: every rank makes one for this run, and says so."""

    owner: PublicKey | None = None
    """The owner's public key (64 hexadecimal digits). Trainers refuse any other."""

    trainers: list[PublicKey] | None = None
    """Public keys of the trainers, in order of their segments. The owner refuses any other."""

    keep_checkpoints: bool = True
    """Keep each stage's checkpoint in the run folder: without them there is no audit."""

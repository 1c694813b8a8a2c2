"""`PackContent`: the plain values that all documents of a pack are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.packing.pack_files import MODEL, PackedFile
from clicooper_hpc.provenance.statements import StageProof
from clicooper_hpc.verification.ledger_view import LedgerView

__all__ = ["ModelFacts", "PackContent"]


class _Network(BaseModel):
    name: str


class _Config(BaseModel):
    """What of ``config.json`` documents repeat."""

    input_shape: tuple[int, ...]
    id2label: dict[str, str]
    network: _Network


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Name of the network, shape of one input row and number of classes of a packed model."""

    network: str
    input_shape: tuple[int, ...]
    classes: int

    @classmethod
    def parse(cls, content: bytes, *, where: str) -> ModelFacts:
        """Read ``config.json`` of a model; `EvidenceError` if it is none."""
        try:
            config = _Config.model_validate(json.loads(content))
        except (ValidationError, ValueError, RecursionError):
            raise EvidenceError("it is no config of a model", where=where) from None
        return cls(config.network.name, config.input_shape, len(config.id2label))


@dataclass(frozen=True, slots=True)
class PackContent:
    """What was packed.

    Attributes
    ----------
    view
        The ledger of the run, once its checks have passed.
    card
        The privacy card as printed before the first release.
    model
        What ``model/config.json`` says.
    files
        By path in the pack: those that a document speaks of.
    created, creator_version, licence
        As in `PackStatement`.
    """

    view: LedgerView
    card: str
    model: ModelFacts
    files: Mapping[str, PackedFile]
    created: str
    creator_version: str
    licence: str | None

    @property
    def run_id(self) -> str:
        """Id of the run (32 hexadecimal digits)."""
        return self.view.run.run_id

    def model_files(self) -> dict[str, PackedFile]:
        """Return the files of the model by path below its folder."""
        prefix = f"{MODEL}/"
        return {
            path.removeprefix(prefix): one
            for path, one in self.files.items()
            if path.startswith(prefix)
        }

    def ended(self) -> str:
        """Return when the last stage ended, by its trainer's clock."""
        return max(proof.time.end for _, _, proof in self.view.all_of(StageProof))

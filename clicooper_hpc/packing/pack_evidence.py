"""A pack as its files tell it: evidence of the run for its checks, and content for the pack's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.packing.pack_content import ModelFacts, PackContent
from clicooper_hpc.packing.pack_files import (
    CARD,
    CHECKPOINTS_FILE,
    CRATE,
    MODEL,
    PROOFS,
    STATEMENT,
    PackedFile,
    list_empty_folders,
    pack_file_digests,
    read_document,
)
from clicooper_hpc.packing.pack_proofs import read_checkpoints, read_entries
from clicooper_hpc.packing.pack_statement import PackStatement
from clicooper_hpc.packing.packed_segments import packed_segment_roots
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.limits import MOST_FILE_BYTES
from clicooper_hpc.runstore.signed_digests import card_digest
from clicooper_hpc.verification.evidence import Evidence, Unreadable
from clicooper_hpc.verification.export import BUNDLE
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_evidence import evidence_run_statement

__all__ = ["PackEvidence", "collect_pack_evidence"]

_WEIGHTS: Final = f"{MODEL}/model.safetensors"
_CONFIG: Final = f"{MODEL}/config.json"
#: Without these there is no evidence to check.
_ESSENTIAL: Final = (STATEMENT, f"{PROOFS}/{BUNDLE}", f"{PROOFS}/{CHECKPOINTS_FILE}", CARD)


@dataclass(frozen=True, slots=True)
class PackEvidence:
    """What there is of a pack, unchecked.

    Attributes
    ----------
    folder
        Of the pack.
    files
        Every file in it, by path.
    empty_folders
        Folders in it with nothing in them.
    statement
        What the pack statement says, whoever signed it.
    evidence
        Of the run, as far as a pack carries it.
    """

    folder: Path
    files: Mapping[str, PackedFile]
    empty_folders: Sequence[str]
    statement: PackStatement
    evidence: Evidence

    def card(self) -> str:
        """Return the privacy card; what is no text becomes one with another digest."""
        return read_document(self.folder, CARD).decode("utf-8", "replace")

    def content(self, view: LedgerView) -> PackContent:
        """Return what the documents must follow from; ``view`` passed its checks."""
        return PackContent(
            view=view,
            card=self.card(),
            model=ModelFacts.parse(read_document(self.folder, _CONFIG), where=_CONFIG),
            files={path: one for path, one in self.files.items() if path not in (CRATE, STATEMENT)},
            created=self.statement.created,
            creator_version=self.statement.creator_version,
            licence=self.statement.licence,
        )


def collect_pack_evidence(
    folder: Path,
    *,
    owner_key: PublicIdentity | None,
    trainer_keys: Sequence[PublicIdentity] | None,
) -> PackEvidence:
    """Collect the evidence of the pack in ``folder``; keys as `collect_run_evidence` takes them.

    Raises
    ------
    EvidenceError
        A file that everything else hangs on is missing or damaged, or something is there that no
        pack holds.
    RunFolderError
        It cannot be read.
    """
    missing = [one for one in _ESSENTIAL if not os.path.lexists(folder / one)]
    if missing:
        raise EvidenceError(
            f"this is no whole pack: {', '.join(missing)} missing, without which nothing in it is "
            "proved",
            where=str(folder),
            remedy="Get an unchanged copy of the pack.",
        )
    statement = PackStatement.read_unchecked(
        read_document(folder, STATEMENT).removesuffix(b"\n"), where=str(folder / STATEMENT)
    )
    entries = read_entries(folder)
    run = evidence_run_statement(entries)
    card = read_document(folder, CARD).decode("utf-8", "replace")
    evidence = Evidence(
        entries=entries,
        checkpoints=read_checkpoints(folder),
        # What says so is the ledger's end.
        status="complete",
        run_id=statement.run_id,
        job_text=None,
        job_digest=None,
        card_digest=card_digest(card).hex,
        segments=None if run is None else _segment_roots(folder, run.cuts),
        owner_key=owner_key,
        trainer_keys=trainer_keys,
    )
    try:
        files, empty = pack_file_digests(folder), list_empty_folders(folder)
    except OSError as error:
        raise RunFolderError(
            f"the pack cannot be read ({error.strerror})",
            where=str(error.filename or folder),
            remedy="Get an unchanged copy of the pack.",
        ) from error
    return PackEvidence(folder, files, empty, statement, evidence)


def _segment_roots(folder: Path, cuts: Sequence[int]) -> list[str | Unreadable]:
    try:
        content = read_document(folder, _WEIGHTS, most=MOST_FILE_BYTES)
        return list(packed_segment_roots(content, cuts, where=_WEIGHTS))
    except (EvidenceError, RunFolderError) as error:
        return [Unreadable(error.what)] * len(cuts)

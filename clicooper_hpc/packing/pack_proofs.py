"""The ledger of a run in a pack: verified before it is written, and read back as evidence."""

from __future__ import annotations

import json
from pathlib import Path

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.packing.pack_files import CHECKPOINTS_FILE, PROOFS, read_document
from clicooper_hpc.runstore.limits import MOST_FILE_BYTES
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.verification.evidence import Evidence
from clicooper_hpc.verification.export import BUNDLE, export_proofs
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.run_checks import run_checks_on
from clicooper_hpc.verification.run_evidence import collect_run_evidence

__all__ = ["read_checkpoints", "read_entries", "verified_ledger", "write_proofs"]


def verified_ledger(run: Run) -> LedgerView:
    """Return the ledger of a finished run that passes every check of `clicooper verify`.

    Raises
    ------
    EvidenceError
        A check fails: nobody shall be handed what its owner could not verify.
    RunFolderError
        The run has no proofs.
    """
    view = LedgerView(collect_run_evidence(run))
    for result in run_checks_on(view):
        if result.passed is False:
            raise EvidenceError(
                f"the run does not verify: check {result.number} ({result.title}) failed: "
                f"{result.detail}",
                where=str(run.folder.path),
                remedy="See `clicooper verify`. Nothing was packed.",
            )
    return view


def write_proofs(evidence: Evidence, folder: Path) -> None:
    """Write ledger, checkpoints and public keys into the new folder ``folder``."""
    export_proofs(evidence, folder)
    lines = [json.dumps(note, ensure_ascii=False) + "\n" for note in evidence.checkpoints]
    (folder / CHECKPOINTS_FILE).write_text("".join(lines), encoding="utf-8")


def read_entries(folder: Path) -> list[bytes]:
    """Return the ledger entries of the pack in ``folder``, unchecked; errors as `read_document`."""
    content = read_document(folder, f"{PROOFS}/{BUNDLE}", most=MOST_FILE_BYTES)
    return content.removesuffix(b"\n").split(b"\n") if content else []


def read_checkpoints(folder: Path) -> list[str]:
    """Return the checkpoints of the pack in ``folder``, unchecked.

    Raises
    ------
    EvidenceError, RunFolderError
        As `read_document`; or a line is no text of JSON.
    """
    name = f"{PROOFS}/{CHECKPOINTS_FILE}"
    try:
        notes = [json.loads(line) for line in read_document(folder, name).splitlines()]
    except (ValueError, RecursionError):
        notes = [None]
    if not all(isinstance(note, str) for note in notes):
        raise EvidenceError(
            "a line is no text of JSON",
            where=str(folder / name),
            remedy="Get an unchanged copy of the pack.",
        )
    return notes

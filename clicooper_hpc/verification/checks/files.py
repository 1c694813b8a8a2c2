"""Checks of what lies beside the ledger: delivery, checkpoints, tables, and the user's own keys."""

from __future__ import annotations

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope, require_envelope_signatures
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.statements import DeliveryStatement, StageProof
from clicooper_hpc.verification.checks.stages import expect_tree_head
from clicooper_hpc.verification.evidence import Unreadable
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = [
    "check_checkpoint_files",
    "check_delivered_files",
    "check_table_files",
]


def check_delivered_files(view: LedgerView, findings: Findings) -> str:
    """Compare the delivery with the last proofs, and the delivered files with the delivery."""
    entry_id = EntryId("delivery")
    entry, delivery = _delivery_statement(view)
    with findings.at(entry_id):
        require_envelope_signatures(entry, [view.owner])
    findings.expect(entry_id, "the number of segments", len(delivery.segments), view.run.segments)
    for one in delivery.segments[: view.run.segments]:
        proof = _proof_of_file(view, EntryId("stage", view.run.stages - 1, one.segment))
        what = f"the weights of segment {one.segment}"
        findings.expect(entry_id, what, one.weights, proof.weights_out)
    expect_tree_head(view, findings, entry_id, delivery.ledger, view.order.size - 1)
    files = view.evidence.segments
    if files is None:
        return "no delivered files are at hand to compare"
    findings.expect("delivered files", "their number", len(files), view.run.segments)
    # Their number was compared above; what there is of both is compared in any case.
    for one, root in zip(delivery.segments, files, strict=False):
        _expect_file(findings, f"file of segment {one.segment}", "weights", root, one.weights)
    return f"delivered files: {len(files)}"


def check_checkpoint_files(view: LedgerView, findings: Findings) -> str:
    """Compare the checkpoints that were kept with the proofs of their stages."""
    roots = view.evidence.checkpoint_roots
    if not roots:
        raise NotApplicableError("no checkpoint files were kept")
    waiting = 0
    for (stage, segment), found in sorted(roots.items()):
        entry_id = EntryId("stage", stage, segment)
        where = f"checkpoint of segment {segment}, stage {stage}"
        with findings.at(where):
            entry = view.find_entry(entry_id)
            if entry is None:
                waiting += 1
            elif isinstance(found, Unreadable):
                findings.add_problem(where, found.reason)
            else:
                # Against the proof and not the file beside it: a state is what its trainer signed.
                proof = _proof_of_file(view, entry_id)
                findings.expect(where, "the digest of its weights", found[0], proof.weights_out)
                findings.expect(where, "the digest of its optimizer", found[1], proof.optimizer_out)
    total = view.run.stages * view.run.segments
    return f"states kept: {len(roots)} of {total}" + _waiting_files(waiting)


def check_table_files(view: LedgerView, findings: Findings) -> str:
    """Compare the metric rows with what their ranks signed."""
    tables = view.evidence.tables
    if not tables:
        raise NotApplicableError("no metric tables are at hand")
    signed = {
        (entry_id.segment, entry_id.stage): proof.tables
        for entry_id, _, proof in view.all_of(StageProof)
    }
    for _, _, delivery in view.all_of(DeliveryStatement):
        signed[0, view.run.stages] = delivery.tables
    waiting = 0
    for rank, stage in sorted(signed.keys() | tables.keys()):
        where = f"rows of rank {rank}" + (f", stage {stage}" if rank else "")
        with findings.at(where):
            if (rank, stage) in signed:
                found = tables.get((rank, stage), Unreadable("they are missing"))
                _expect_file(findings, where, "rows", found, signed[rank, stage])
            # The owner signs its rows once, in the delivery.
            elif rank == 0 and stage != view.run.stages:
                findings.add_problem(where, "nobody signed them")
            else:
                # Raises when such rows cannot be; else the ledger does not reach them yet.
                view.find_entry(EntryId("stage", stage, rank) if rank else EntryId("delivery"))
                waiting += 1
    return f"blocks of rows: {len(signed)}" + _waiting_files(waiting)


def _delivery_statement(view: LedgerView) -> tuple[Envelope, DeliveryStatement]:
    for _, entry, delivery in view.all_of(DeliveryStatement):
        return entry.envelope, delivery
    raise EvidenceError("the ledger has no delivery")


def _proof_of_file(view: LedgerView, entry_id: EntryId) -> StageProof:
    entry = view.find_entry(entry_id)
    if entry is None or not isinstance(entry.statement, StageProof):
        raise EvidenceError(f"the ledger has no {entry_id}")
    return entry.statement


def _waiting_files(count: int) -> str:
    return f", not proved yet: {count}" if count else ""


def _expect_file(
    findings: Findings, where: str, what: str, found: str | Unreadable, wanted: str
) -> None:
    if isinstance(found, Unreadable):
        findings.add_problem(where, found.reason)
    else:
        findings.expect(where, f"the digest of its {what}", found, wanted)

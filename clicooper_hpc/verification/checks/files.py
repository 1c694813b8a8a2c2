"""Checks of what lies beside the ledger: delivery, checkpoints, tables, messages, HDF5 files."""

from __future__ import annotations

from typing import Final

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import Envelope, require_envelope_signatures
from clicooper_hpc.provenance.ledger_order import EntryId
from clicooper_hpc.provenance.merkle import merkle_root
from clicooper_hpc.provenance.statement_fields import Flow
from clicooper_hpc.provenance.statements import DeliveryStatement, Handoff, StageProof
from clicooper_hpc.verification.checks.stages import expect_tree_head
from clicooper_hpc.verification.evidence import Unreadable
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = [
    "check_checkpoint_files",
    "check_delivered_files",
    "check_hdf5_files",
    "check_message_tables",
    "check_table_files",
]

#: What a table says of a channel that it has no row of.
_NO_MESSAGES: Final = (0, merkle_root([]).hex())


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


def check_message_tables(view: LedgerView, findings: Findings) -> str:
    """Compare the digests that trainers stored of their messages with what both ends signed."""
    tables = view.evidence.messages
    if not tables:
        raise NotApplicableError("no tables of messages are at hand")
    signed: dict[tuple[int, int, str], Flow] = {}
    for entry_id, _, handoff in view.all_of(Handoff):
        before, stage = handoff.boundary, entry_id.stage
        signed |= {
            (before, stage, "forward_out"): handoff.forward,
            (before, stage, "backward_in"): handoff.backward,
            (before + 1, stage, "forward_in"): handoff.forward,
            (before + 1, stage, "backward_out"): handoff.backward,
        }
    compared = 0
    for rank, found in sorted(tables.items()):
        if isinstance(found, Unreadable):
            findings.add_problem(f"messages of rank {rank}", found.reason)
            continue
        mine = {(stage, channel) for one, stage, channel in signed if one == rank}
        for stage, channel in sorted(mine | found.keys()):
            where = f"messages of rank {rank}, stage {stage}, {channel}"
            count, root = found.get((stage, channel), _NO_MESSAGES)
            flow = signed.get((rank, stage, channel))
            if flow is not None:
                findings.expect(where, "their number", count, flow.messages)
                findings.expect(where, "their root", root, flow.root)
                compared += count
            elif not _is_waiting(view, stage):
                findings.add_problem(where, "no hand-off speaks of them")
    return f"messages: {compared}"


def check_hdf5_files(view: LedgerView, findings: Findings) -> str:
    """Compare what the HDF5 files hold with what this version writes."""
    outlines = view.evidence.outlines
    if not outlines:
        raise NotApplicableError("no HDF5 files are at hand")
    for name, differences in outlines.items():
        for one in differences:
            findings.add_problem(name, one)
    return f"files: {len(outlines)}"


def _is_waiting(view: LedgerView, stage: int) -> bool:
    """Tell whether the ledger of an unfinished run does not reach the hand-offs of ``stage``."""
    return 0 <= stage < view.run.stages and view.size < view.order.size_before_stage(stage + 1)


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

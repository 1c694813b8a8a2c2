"""Checks of the ledger as a whole: entries, run statement, order, checkpoints, completeness."""

from __future__ import annotations

from dataclasses import replace

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.envelope import parse_envelope, require_envelope_signatures
from clicooper_hpc.provenance.equivocation import Equivocation
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.provenance.ledger_order import EntryId, LedgerOrder
from clicooper_hpc.provenance.proof_rules import enrolled_mark_problems
from clicooper_hpc.provenance.statements import (
    DeliveryStatement,
    Enrolment,
    Handoff,
    Predicate,
    RunStatement,
    StageProof,
    Ticket,
    parse_statement,
)
from clicooper_hpc.provenance.tree_checkpoint import (
    OWNER_NAME,
    SignedCheckpoint,
    TreeCheckpoint,
    checkpoint_origin,
    checkpoint_signer,
)
from clicooper_hpc.verification.evidence import JOB_TAG, Unreadable
from clicooper_hpc.verification.ledger_view import Findings, LedgerView, NotApplicableError

__all__ = [
    "check_ledger_checkpoints",
    "check_ledger_completeness",
    "check_ledger_enrolments",
    "check_ledger_entries",
    "check_ledger_keys",
    "check_ledger_order",
    "check_ledger_replicas",
    "check_ledger_run",
]


def check_ledger_entries(view: LedgerView, findings: Findings) -> str:
    """Parse every entry into ``view``."""
    evidence = view.evidence
    if evidence.missing_ledger is not None:
        findings.add_problem("file of the owner", evidence.missing_ledger)
    # Without this a run could be stripped of its proofs by an edit of the job's text.
    if evidence.denied_proofs is not None:
        what = f"it says that the run has no proofs; there are {evidence.denied_proofs}"
        findings.add_problem("job text", what)
    if not view.size:
        findings.add_problem("ledger", "it has no entries")
    for index, content in enumerate(evidence.entries):
        with findings.at(f"entry {index}"):
            envelope = parse_envelope(content)
            view.add_entry(envelope, parse_statement(envelope.payload))
        if len(view.entries) <= index:
            # The indices of what follows would be wrong.
            break
    return f"entries: {view.size}"


def check_ledger_run(view: LedgerView, findings: Findings) -> str:
    """Set ``view.run``, its order and keys."""
    evidence, entry_id = view.evidence, EntryId("run")
    first = view.entries[0]
    run = first.statement
    if not isinstance(run, RunStatement):
        raise EvidenceError(f"entry 0 is a {run.kind} statement, not the run statement")
    # Keys come from the statement itself; whose they are is the matter of check 17.
    view.run, view.order = run, LedgerOrder(run.segments, run.stages)
    view.owner = PublicIdentity.from_raw(bytes.fromhex(run.owner))
    view.trainers = [PublicIdentity.from_raw(bytes.fromhex(key)) for key in run.trainers]
    with findings.at(entry_id):
        require_envelope_signatures(first.envelope, [view.owner])
    findings.expect(entry_id, "the run id", run.run_id, evidence.run_id)
    missing = ""
    if evidence.job_text is None:
        missing = "; the job is not at hand"
    else:
        findings.expect(entry_id, "the job's digest", run.job_digest, evidence.job_digest)
        # The text too: a digest beside another job would pass for the job that was run.
        text_digest = digest_bytes(JOB_TAG, evidence.job_text.encode("utf-8", "replace")).hex
        findings.expect("job text", "its digest", text_digest, run.job_digest)
    findings.expect(entry_id, "the privacy card's digest", run.card_digest, evidence.card_digest)
    return f"segments: {run.segments}, stages: {run.stages}, steps: {run.total_steps}{missing}"


def check_ledger_order(view: LedgerView, findings: Findings) -> str:
    """Compare every entry with the place it stands at."""
    for entry in view.entries:
        if entry.index >= view.order.size:
            findings.add_problem(f"entry {entry.index}", "it stands behind the delivery")
            break
        wanted, found = view.order.entry_at(entry.index), _ledger_id_of(entry.statement)
        # The index alone says what must stand here; statements only confirm it.
        if found != wanted:
            findings.add_problem(f"entry {entry.index}", f"it is the {found}, must be the {wanted}")
        findings.expect(
            f"entry {entry.index}", "the run id", entry.statement.run_id, view.run.run_id
        )
    return f"entries: {len(view.entries)} of {view.order.size}"


def check_ledger_checkpoints(view: LedgerView, findings: Findings) -> str:
    """Compare the signed checkpoints with the tree over the entries."""
    sizes = view.order.checkpoint_sizes()
    notes = view.evidence.checkpoints
    due = sum(size <= view.size for size in sizes)
    if len(notes) > len(sizes):
        findings.add_problem("checkpoints", f"there are {len(notes)}, must be {len(sizes)}")
    # Only what the entries that are there call for: an unfinished run has fewer.
    elif len(notes) < due:
        findings.add_problem(
            f"checkpoint {len(notes)}", f"it is missing at size {sizes[len(notes)]}"
        )
    for number, (note, size) in enumerate(zip(notes, sizes, strict=False)):
        where = f"checkpoint {number}"
        with findings.at(where):
            signed = SignedCheckpoint.parse(note)
            stated = signed.checkpoint
            if number == len(sizes) - 1:
                # Cosignatures of the last are a check of their own.
                owner_only = tuple(one for one in signed.signatures if one[0] == OWNER_NAME)
                signed = replace(signed, signatures=owner_only)
            signed.verify({OWNER_NAME: view.owner})
            findings.expect(where, "the origin", stated.origin, checkpoint_origin(view.run.run_id))
            findings.expect(where, "the size", stated.size, size)
            if stated.size > view.size:
                findings.add_problem(
                    where, f"it speaks of {stated.size} entries; there are {view.size}"
                )
            else:
                findings.expect(where, "the root", stated.root.hex(), view.root_at(stated.size))
    return f"checkpoints: {len(notes)}"


def check_ledger_completeness(view: LedgerView, findings: Findings) -> str:
    """Look for the delivery, the cosignatures behind it, and the word of the index."""
    if view.size < view.order.size:
        findings.add_problem(
            "ledger",
            f"it ends after {view.size} of {view.order.size} entries: the run is unfinished",
        )
        return ""
    notes = view.evidence.checkpoints
    if not notes:
        findings.add_problem("last checkpoint", "it is missing")
        return ""
    keys = {OWNER_NAME: view.owner}
    keys |= {checkpoint_signer(rank): key for rank, key in enumerate(view.trainers, 1)}
    with findings.at("last checkpoint"):
        signed = SignedCheckpoint.parse(notes[-1])
        signed.verify(keys)
        findings.expect("last checkpoint", "the size", signed.checkpoint.size, view.size)
    findings.expect("run.h5", "its status", view.evidence.status, "complete")
    return f"cosignatures: {len(view.trainers)}"


def check_ledger_enrolments(view: LedgerView, findings: Findings) -> str:
    """Check signatures, keys and the run statement they name."""
    allowed = view.evidence.allowed_keys
    marks = view.evidence.marks
    for entry_id, entry, enrolment in view.all_of(Enrolment):
        key = view.key(enrolment.segment)
        with findings.at(entry_id):
            require_envelope_signatures(entry.envelope, [key])
        findings.expect(entry_id, "the run statement", enrolment.run, view.entries[0].digest)
        if allowed is not None and key not in allowed:
            findings.add_problem(entry_id, f"the job does not allow the key {key.keyid[:16]}...")
        with findings.at(entry_id):
            for problem in enrolled_mark_problems(enrolment.mark, required=marks):
                findings.add_problem(entry_id, problem)
    keys = "allowed by the job" if allowed is not None else "not restricted by the job"
    if view.evidence.job_text is None:
        keys = "not compared with the job"
    return f"trainers: {view.run.segments}, keys {keys}"


def check_ledger_replicas(view: LedgerView, findings: Findings) -> str:
    """Compare the ledger with the heads that trainers stored on their own."""
    heads = view.evidence.trainer_heads
    if not heads:
        raise NotApplicableError("no trainer's own copies of checkpoints are at hand")
    for segment in range(1, view.run.segments + 1):
        # What is not signed is the file's word, not the trainer's: anybody can write it.
        where = f"trainer {segment}"
        # A run may die between the first checkpoint and the trainers' copies of it.
        if not heads.get(segment) and len(view.evidence.checkpoints) > 1:
            rows = view.evidence.messages.get(segment)
            findings.add_problem(
                where,
                f"its file cannot be read: {rows.reason}"
                if isinstance(rows, Unreadable)
                else "its file holds no checkpoint",
            )
        notes = view.evidence.trainer_notes.get(segment, ())
        for place, (size, root) in enumerate(heads.get(segment, ())):
            signed = _owner_head(view, notes[place] if place < len(notes) else "")
            if signed is not None and _contradicts(view, signed):
                # Two notes of one size under one key: whoever has it made both.
                findings.add_problem(
                    "owner",
                    f"it signed two ledgers of {signed.size} entries, a fork: this one, and the "
                    f"one in the note in the file of {where}",
                )
            elif not 0 <= size <= view.size:
                findings.add_problem(
                    where,
                    f"its file says that it saw {size} entries; the ledger has only {view.size}",
                )
            elif root != view.root_at(size):
                findings.add_problem(
                    where,
                    f"its file says that it saw another ledger at size {size}; the owner's "
                    "signature is not under that",
                )
            elif signed is None or signed.size != size:
                findings.add_problem(
                    where,
                    f"the note beside the head of {size} entries in its file is not the owner's",
                )
    false = 0
    for name, content in view.evidence.equivocations.items():
        # Forged evidence accuses nobody, and fails nobody's run: anybody can write a file.
        try:
            found = Equivocation.from_bytes(content, where=name)
            rank, what = found.accuse(view.owner, view.trainers, view.run.run_id, where=name)
        except EvidenceError:
            false += 1
            continue
        findings.add_problem(f"trainer {rank}" if rank else "owner", f"{what}: {name}")
    # A file of a rank that the run does not have was put there afterwards.
    for segment in sorted(heads.keys() - set(range(1, view.run.segments + 1))):
        findings.add_problem(f"trainer {segment}", "there is no such trainer")
    empty = f", files of evidence that is none: {false}" if false else ""
    return f"trainers: {len(heads)}, heads: {sum(map(len, heads.values()))}{empty}"


def _owner_head(view: LedgerView, note: str) -> TreeCheckpoint | None:
    """Return what a note says of this run's ledger, if the owner alone signed it."""
    try:
        signed = SignedCheckpoint.parse(note)
        signed.verify({OWNER_NAME: view.owner})
    except EvidenceError:
        return None
    found = signed.checkpoint
    return found if found.origin == checkpoint_origin(view.run.run_id) else None


def _contradicts(view: LedgerView, head: TreeCheckpoint) -> bool:
    """Whether the ledger had another root at the size of ``head``."""
    return head.size <= view.size and head.root.hex() != view.root_at(head.size)


def check_ledger_keys(view: LedgerView, findings: Findings) -> str:
    """Compare the keys of the run with those the user brought along."""
    owner, trainers = view.evidence.owner_key, view.evidence.trainer_keys
    if owner is None and trainers is None:
        raise NotApplicableError(
            "no keys were given; whoever wrote this run may have made all its keys"
        )
    compared = []
    if owner is not None:
        findings.expect("owner", "the key", view.owner.keyid, owner.keyid)
        compared.append("owner")
    if trainers is not None:
        findings.expect("trainers", "the number of keys", len(trainers), len(view.trainers))
        for segment, (found, wanted) in enumerate(zip(view.trainers, trainers, strict=False), 1):
            findings.expect(f"trainer {segment}", "the key", found.keyid, wanted.keyid)
        compared.append("trainers")
    return "keys of " + " and ".join(compared)


def _ledger_id_of(statement: Predicate) -> EntryId:
    match statement:
        case Enrolment():
            return EntryId("enrolment", 0, statement.segment)
        case Handoff():
            return EntryId("handoff", statement.stage, statement.boundary)
        case Ticket() | StageProof():
            return EntryId(statement.kind, statement.stage, statement.segment)
        case RunStatement() | DeliveryStatement():
            return EntryId(statement.kind)
        case _:
            raise TypeError(statement.kind)

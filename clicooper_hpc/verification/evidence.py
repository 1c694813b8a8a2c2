"""The evidence a verification looks at, as plain values: no file and no HDF5 is opened here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from clicooper_hpc.provenance.identity import PublicIdentity

__all__ = ["JOB_TAG", "Evidence", "Unreadable"]

#: Tag of the digest of a resolved job.
JOB_TAG: Final = "clicooper/v1/job"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the digest of a file that is missing or damaged."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run as its folder tells it. Digests, roots and ids are lower-case hex.

    Parameters
    ----------
    entries
        Ledger entries: envelopes as stored.
    checkpoints
        Signed notes, oldest first.
    status
        What ``run.h5`` says: ``complete``, or that the run is not.
    run_id
        What the run folder calls itself.
    job_text, job_digest
        Resolved job in canonical form, and the digest stored beside it; both None where the job is
        not at hand.
    card_digest
        Digest of the stored privacy card.
    marks
        Whether the job asks for marks in all segments; None if it leaves that open.
    missing_ledger
        Why the owner's file cannot be read; None if it can.
    denied_proofs
        What there is of proofs although the job says that the run has none; None else.
    segments
        Tensor root of every delivered file, in segment order; None without delivered files.
    checkpoint_roots
        (stage, segment) to the roots of weights and optimizer in the checkpoint file. Those that
        were not kept are left out.
    tables
        (rank, stage) to the digest of the rows a rank wrote in a stage; (0, number of stages) for
        the owner's rows. Rows of an unfinished stage may be there. Empty if there are no tables.
    trainer_heads
        Segment to (size, root) of every checkpoint its trainer stored on its own. Empty if unknown.
    messages
        Rank to what its table ``messages`` says: (stage, channel) to number and root of digests.
        Empty if there are no tables.
    outlines
        Name of every HDF5 file to how it departs from the one that this version writes for the
        values it holds. Empty if there are no files.
    trainer_notes
        Segment to the signed notes its trainer stored beside those, in the same order.
    equivocations
        Name to content of the files in which ranks say they found two ledgers of the owner's, or
        two proofs of a trainer's.
    owner_key, trainer_keys
        Keys the user knows and insists on; trainers' in segment order.
    allowed_keys
        Keys the job admits as trainers; None admits any.
    """

    entries: Sequence[bytes]
    checkpoints: Sequence[str]
    status: str
    run_id: str
    job_text: str | None
    job_digest: str | None
    card_digest: str
    marks: bool | None = None
    missing_ledger: str | None = None
    denied_proofs: str | None = None
    segments: Sequence[str | Unreadable] | None = None
    checkpoint_roots: Mapping[tuple[int, int], tuple[str, str] | Unreadable] = field(
        default_factory=dict
    )
    tables: Mapping[tuple[int, int], str | Unreadable] = field(default_factory=dict)
    trainer_heads: Mapping[int, Sequence[tuple[int, str]]] = field(default_factory=dict)
    messages: Mapping[int, Mapping[tuple[int, str], tuple[int, str]] | Unreadable] = field(
        default_factory=dict
    )
    outlines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    trainer_notes: Mapping[int, Sequence[str]] = field(default_factory=dict)
    equivocations: Mapping[str, bytes] = field(default_factory=dict)
    # The rest is the word of whoever brings the evidence; these are the user's own.
    owner_key: PublicIdentity | None = None
    trainer_keys: Sequence[PublicIdentity] | None = None
    allowed_keys: Collection[PublicIdentity] | None = None

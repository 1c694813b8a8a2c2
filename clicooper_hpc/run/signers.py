"""Signers of a run: keys agreed on by all ranks, and how each rank marks its segment."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.config.job import Job
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EvidenceError, PeerError, UsageError
from clicooper_hpc.provenance.envelope import parse_envelope
from clicooper_hpc.provenance.identity import KEY_BYTES, PublicIdentity
from clicooper_hpc.provenance.marks.mark_plan import MarkPlan, plan_mark
from clicooper_hpc.provenance.statements import RunStatement, parse_statement
from clicooper_hpc.run.agreement import agree
from clicooper_hpc.run.credentials import Credentials, check_credentials, obtain_credentials
from clicooper_hpc.run.network import RunNetwork
from clicooper_hpc.run.vouching import check_noted_job
from clicooper_hpc.runstore.private_folder import PrivateFolder
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.training.restart_point import RestartPoint
from clicooper_hpc.transport.world import World

__all__ = ["Signers", "agree_on_signers", "check_own_note", "check_recorded_signers"]

_log = logging.getLogger(__name__)

#: Bytes that each rank draws at every start, and of what it shows: its public key, and these.
_NONCE_BYTES: Final = 32
_PART_BYTES: Final = KEY_BYTES + _NONCE_BYTES
_START_TAG: Final = "clicooper/v1/start"


@dataclass(frozen=True, slots=True)
class Signers:
    """Secrets of one rank, everybody's public keys (owner first), and how this rank marks.

    ``start`` (64 hex digits) tells this start of the run from every other: each rank has put random
    bytes into it, so nobody can make a start that another rank takes for an earlier one.
    """

    credentials: Credentials
    keys: tuple[PublicIdentity, ...]
    start: str
    mark: MarkPlan | None


def agree_on_signers(
    world: World,
    job: Job,
    folder: RunFolder,
    network: RunNetwork,
    *,
    is_restart: bool,
) -> Signers | None:
    """Obtain keys on all ranks, let all know all public ones and name the start of the run.

    None without provenance.

    ``is_restart``: the run has begun before, so no key is made.

    Raises
    ------
    AgreedFailure
        A key is missing or not the job's, or a mark is required that a segment cannot carry.
    """
    if not job.provenance.enabled:
        return None
    startup_s = job.pipeline.startup_timeout_s

    def mine() -> tuple[Credentials, MarkPlan | None]:
        credentials = obtain_credentials(job, folder.private, world.rank, is_restart=is_restart)
        if world.rank:
            return credentials, _plan_signer_mark(job, world.rank, network)
        # The owner holds no segment that could carry a mark; it says once which cannot.
        warn_of_unmarked_segments(job, network, world.size - 1)
        return credentials, None

    credentials, plan = agree(world, mine, deadline_s=startup_s)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    parts = world.gather_bytes(
        credentials.identity.public.raw + nonce, limit_bytes=_PART_BYTES, deadline_s=startup_s
    )
    for rank, part in enumerate(parts or []):
        # Here, where it is known whose it is: behind the others it would shift their keys.
        if len(part) != _PART_BYTES:
            raise PeerError(
                f"a public key and a nonce of {len(part)} bytes instead of {_PART_BYTES}",
                where=f"message from rank {rank} (control)",
                remedy=f"Run one clicooper_hpc version on all ranks; else rank {rank} is at fault",
            )
    shared = world.broadcast_bytes(
        None if parts is None else b"".join(parts),
        limit_bytes=_PART_BYTES * world.size,
        deadline_s=startup_s,
    )

    def checked() -> tuple[PublicIdentity, ...]:
        keys = tuple(
            PublicIdentity.from_raw(shared[place : place + KEY_BYTES])
            for place in range(0, len(shared), _PART_BYTES)
        )
        # The owner passes the keys on; each rank at least finds its own among them.
        if (
            len(shared) != _PART_BYTES * world.size
            or keys[world.rank] != credentials.identity.public
        ):
            raise EvidenceError("the owner passed on another key than this rank's")
        # Or the owner could let a trainer prove a stage twice in what looks like one start.
        if shared[_PART_BYTES * world.rank :][KEY_BYTES:_PART_BYTES] != nonce:
            raise EvidenceError("the owner passed on another nonce than this rank's")
        check_credentials(job, keys)
        return keys

    keys = agree(world, checked, deadline_s=startup_s)
    return Signers(credentials, keys, digest_bytes(_START_TAG, shared).hex, plan)


def check_own_note(folder: RunFolder, rank: int, job_digest: str) -> None:
    """Compare the job that rank 0 hands out (its digest, hex) with what this rank noted.

    Raises
    ------
    EvidenceError
        It is another one.
    RunFolderError
        This rank has no note of the run.
    """
    private = PrivateFolder(folder.private / f"rank-{rank:03d}")
    check_noted_job(private, job_digest, where="job of rank 0")


def check_recorded_signers(signers: Signers | None, point: RestartPoint) -> None:
    """Compare the keys of all ranks with those of the run statement in the ledger.

    Raises
    ------
    UsageError
        A rank's key is not the one it began the run with.
    EvidenceError
        The first entry of the ledger is no run statement.
    """
    # Only the owner has the entries at this point; trainers compare once it has shown them.
    if signers is None or not point.ledger_entries:
        return
    where = "run statement of the ledger"
    run = parse_statement(parse_envelope(point.ledger_entries[0], where=where).payload, where=where)
    if not isinstance(run, RunStatement):
        raise EvidenceError("is another statement", where=where)
    recorded = (run.owner, *run.trainers)
    for rank, (key, wanted) in enumerate(zip(signers.keys, recorded, strict=True)):
        if key.raw.hex() != wanted:
            raise UsageError(
                f"rank {rank} has the public key {key.raw.hex()}, the run began with {wanted}",
                where=f"private/rank-{rank:03d}",
                remedy="Bring back the key files the run began with.",
            )


def warn_of_unmarked_segments(job: Job, network: RunNetwork, segments: int) -> None:
    """Log in one line which segments of a job that lets them do without carry no mark."""
    if job.provenance.marks != "auto":
        return
    unmarked, reason = [], ""
    for segment in range(1, segments + 1):
        try:
            _segment_mark(job, segment, network)
        except UsageError as error:
            unmarked.append(segment)
            reason = reason or error.what
    if unmarked:
        named = ", ".join(map(str, unmarked))
        _log.warning("without a mark: segment %s (segment %d: %s)", named, unmarked[0], reason)


def _plan_signer_mark(job: Job, rank: int, network: RunNetwork) -> MarkPlan | None:
    if job.provenance.marks == "off":
        return None
    try:
        return _segment_mark(job, rank, network)
    except UsageError as error:
        # Proofs do not depend on marks, so a segment too small for one only loses the mark.
        if job.provenance.marks == "required":
            raise UsageError(f"segment {rank}: {error.what}", remedy=error.remedy) from None
        return None


def _segment_mark(job: Job, segment: int, network: RunNetwork) -> MarkPlan:
    state = network.layout.layers_of(network.model, segment - 1).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    return plan_mark(shapes, distortion=job.provenance.mark_distortion)

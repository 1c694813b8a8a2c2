"""Writes checkpoints: every rank its own files, then the owner the list that makes them valid.

In a run with proofs every rank signs that list, so that a restart takes nothing for its own that it
did not write: whoever edits a checkpoint would otherwise have its rank train on from a state of
another's making, and an audit would blame the rank.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.errors import EvidenceError, PeerError
from clicooper_hpc.provenance.identity import Identity
from clicooper_hpc.runstore.checkpoints import (
    FileDigest,
    checkpoint_seal_text,
    commit_checkpoint,
    drop_newer_checkpoints,
    rank_checkpoint_name,
    segment_checkpoint_name,
    store_checkpoint_file,
)
from clicooper_hpc.transport.world import World

__all__ = ["CheckpointWriter", "Stopped"]

# Names and digests of a rank's files, two at most.
_LIMIT = 4096
_SEAL_BYTES = 64
_WHOLE = b"saved"


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that was asked to stop has done so after ``step`` steps.

    ``is_saved`` is False if that state is in no checkpoint: stages that are proved were being
    trained again, and only at their end is it known whether the state is the proved one.
    """

    step: int
    is_saved: bool


class CheckpointWriter:
    """One rank's part in the checkpoints of a run.

    Parameters
    ----------
    run
        The run folder.
    run_id, keep
        Of the run; how many checkpoints stay.
    wait_s
        Longest wait for a rank.
    identity
        Signs the checkpoints of this rank; None without proofs.
    """

    def __init__(
        self,
        world: World,
        run: Path,
        *,
        run_id: str,
        keep: int,
        wait_s: float,
        identity: Identity | None,
    ) -> None:
        self._world = world
        self._run = run
        self._run_id = run_id
        self._keep = keep
        self._wait_s = wait_s
        self._identity = identity
        # State after 0 steps is never saved: every rank builds it from the seed.
        self._saved = self._proved = 0

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether the state after ``step`` steps is to be saved; all ranks agree.

        Not twice, and not while stages are trained again that are proved: whether the state is the
        proved one is only known at their end.
        """
        # ``!=``, for a stop can come at a step that was saved already.
        return step != self._saved and step > self._proved

    def stopped_after(self, step: int) -> Stopped:
        """Return the end of a run that stops after ``step`` steps."""
        return Stopped(step, step == self._saved)

    def restart_after(self, step: int, proved: int) -> None:
        """Note that the checkpoint after ``step`` steps exists, and ``proved`` steps are proved."""
        self._saved, self._proved = step, proved

    def forget_after(self, step: int) -> None:
        """Let no restart begin after more than ``step`` steps."""
        drop_newer_checkpoints(self._run, step)

    def save_checkpoint(self, step: int, files: Mapping[str, bytes]) -> None:
        """Write this rank's ``files`` (content by name); collective.

        The older checkpoints go when the new one is whole.

        Raises
        ------
        EnvironmentUnfitError
            A file cannot be written; the older checkpoints are as they were.
        EvidenceError
            The owner lists other files than this rank has written.
        PeerError
            A rank does not take part, or its message cannot be read.
        """
        # Every rank writes its own files: no state travels, and no rank needs room for another's.
        digests = {
            name: store_checkpoint_file(self._run, step, name, content)
            for name, content in files.items()
        }
        listing = json.dumps({name: [one.size, one.sha256] for name, one in digests.items()})
        # The owner lists only what every rank has stored and fsynced: the list, written last, makes
        # the checkpoint whole.
        parts = self._world.gather_bytes(
            listing.encode(), limit_bytes=_LIMIT, deadline_s=self._wait_s
        )
        self._saved = step
        every: dict[str, FileDigest] = {}
        for rank, part in enumerate(parts or ()):
            every |= _parse_checkpoint_digests(part, rank, [rank])
        seals = [] if self._identity is None else self._seal(self._identity, step, digests, every)
        if parts is not None:
            commit_checkpoint(
                self._run,
                run_id=self._run_id,
                step=step,
                files=every,
                seals=seals,
                keep=self._keep,
            )
        # All wait until the owner has committed it: a slow file system must not count against the
        # deadline of a step's message.
        self._world.broadcast_bytes(
            None if self._world.rank else _WHOLE, limit_bytes=16, deadline_s=self._wait_s
        )

    def _seal(
        self,
        identity: Identity,
        step: int,
        mine: Mapping[str, FileDigest],
        every: Mapping[str, FileDigest],
    ) -> list[bytes]:
        """Have every rank sign the list of all files; return the signatures, on the owner alone."""
        content = {name: [one.size, one.sha256] for name, one in every.items()}
        listing = self._world.broadcast_bytes(
            None if self._world.rank else json.dumps(content).encode(),
            limit_bytes=_LIMIT * self._world.size,
            deadline_s=self._wait_s,
        )
        files = _parse_checkpoint_digests(listing, 0, range(self._world.size))
        # Signed only with this rank's own files in it, which it has written itself.
        if any(files.get(name) != one for name, one in mine.items()):
            raise EvidenceError(
                "the owner lists other files than this rank has written",
                where=f"checkpoint after {step} steps",
            )
        seal = identity.sign(checkpoint_seal_text(self._run_id, step, files))
        seals = self._world.gather_bytes(seal, limit_bytes=_SEAL_BYTES, deadline_s=self._wait_s)
        return seals or []


def _parse_checkpoint_digests(
    part: bytes, sender: int, writers: Iterable[int]
) -> dict[str, FileDigest]:
    """Return the digests that ``sender`` names of files of ``writers``, and of no others."""
    where = f"checkpoint message from rank {sender}"
    remedy = f"Run one clicooper_hpc version on all ranks; else rank {sender} is at fault"
    try:
        named = {name: (size, sha256) for name, (size, sha256) in json.loads(part).items()}
    # RecursionError: of lists nested too deep.
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        problem = f"names its files in a way that cannot be read ({error})"
        raise PeerError(problem, where=where, remedy=remedy) from None
    # A digest of another rank's file would make the checkpoint look damaged there.
    known = {
        name
        for rank in writers
        for name in (rank_checkpoint_name(rank), segment_checkpoint_name(rank))
    }
    strange = named.keys() - known
    if strange:
        problem = f"names {sorted(strange)[0]!r}, which it has no file of"
        raise PeerError(problem, where=where, remedy=remedy)
    for name, (size, sha256) in named.items():
        # Taken as they are: a number made of a text, a fraction or an infinity is another one.
        plain = type(size) is int and isinstance(sha256, str)
        if not plain or size < 0 or re.fullmatch("[0-9a-f]{64}", sha256) is None:
            problem = f"says of {name} what is no size and digest"
            raise PeerError(problem, where=where, remedy=remedy)
    return {name: FileDigest(size, sha256) for name, (size, sha256) in named.items()}

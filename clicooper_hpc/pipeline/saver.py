"""Saves a checkpoint with all ranks: each writes its files, the owner makes the whole of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from clicooper_hpc.errors import PeerError
from clicooper_hpc.runstore.checkpoints import FileDigest, commit_checkpoint, store_file
from clicooper_hpc.transport.world import World

__all__ = ["Saver"]

_LIMIT = 4096


class Saver:
    """One rank's part in the checkpoints of a run.

    Parameters
    ----------
    run
        The run folder.
    run_id, keep
        Of the run; how many checkpoints stay.
    wait_s
        Longest wait for a rank.
    """

    def __init__(self, world: World, run: Path, *, run_id: str, keep: int, wait_s: float) -> None:
        self._world = world
        self._run = run
        self._run_id = run_id
        self._keep = keep
        self._wait_s = wait_s
        self._saved = 0

    def is_due(self, step: int) -> bool:
        """Whether a run that stops after ``step`` steps has yet to save; all ranks agree."""
        return step != self._saved

    def resumed(self, step: int) -> None:
        """Note that the checkpoint after ``step`` steps is there."""
        self._saved = step

    def save(self, step: int, files: Mapping[str, bytes]) -> None:
        """Write this rank's ``files`` (content by name); collective.

        The older checkpoints go when the new one is whole.

        Raises
        ------
        EnvironmentUnfitError
            A file cannot be written; the older checkpoints are as they were.
        PeerError
            A rank does not take part, or says nonsense.
        """
        digests = {
            name: store_file(self._run, step, name, content) for name, content in files.items()
        }
        told = json.dumps({name: [one.size, one.sha256] for name, one in digests.items()})
        parts = self._world.gather_bytes(told.encode(), limit_bytes=_LIMIT, deadline_s=self._wait_s)
        self._saved = step
        if parts is None:
            return
        every: dict[str, FileDigest] = {}
        for rank, part in enumerate(parts):
            every |= _digests(part, rank)
        commit_checkpoint(self._run, run_id=self._run_id, step=step, files=every, keep=self._keep)


def _digests(part: bytes, rank: int) -> dict[str, FileDigest]:
    try:
        return {
            str(name): FileDigest(int(size), str(sha256))
            for name, (size, sha256) in json.loads(part).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise PeerError(
            f"names its files in a way that cannot be read ({error})",
            where=f"checkpoint message from rank {rank}",
        ) from None

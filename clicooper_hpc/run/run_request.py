"""The request rank 0 sends to all: which job to run, where, and what the run began with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.load_job import load_canonical_job
from clicooper_hpc.errors import PeerError

__all__ = ["RunRequest"]

_WHERE = "message from rank 0 (control)"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A job and the folder it runs in; ``began``: the job a run to restart began with, or None."""

    job: Job
    path: Path
    began: Job | None = None

    @property
    def is_restart(self) -> bool:
        """Whether the run has begun before."""
        return self.began is not None

    @property
    def job_digest(self) -> str:
        """Digest (hex) of the job the run began with, which is what is signed."""
        return (self.began or self.job).digest().hex

    def encode_request(self) -> bytes:
        """Encode for the wire."""
        began = None if self.began is None else self.began.canonical()
        return json.dumps([str(self.path), self.job.folder, self.job.canonical(), began]).encode()

    @classmethod
    def decode_request(cls, content: bytes) -> RunRequest:
        """Decode what `encode_request` wrote.

        Raises
        ------
        PeerError
            It is something else.
        UsageError
            A job in it is none of this version.
        """
        try:
            path, folder, canonical, began = json.loads(content)
        # RecursionError: of lists nested too deep.
        except (ValueError, TypeError, RecursionError) as error:
            raise PeerError(f"the request to run cannot be read: {error}", where=_WHERE) from None
        texts = (path, folder, canonical, "" if began is None else began)
        if not all(isinstance(text, str) for text in texts) or "\0" in path + folder:
            raise PeerError("the request to run holds something else than texts", where=_WHERE)
        return cls(
            load_canonical_job(canonical, folder),
            Path(path),
            None if began is None else load_canonical_job(began, folder),
        )

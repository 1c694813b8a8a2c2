"""The owner's verification of a run that has come to its end, before it is marked complete."""

from __future__ import annotations

from collections.abc import Sequence

from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.provenance.identity import PublicIdentity
from clicooper_hpc.runstore.reader import open_run
from clicooper_hpc.runstore.run_folder import RunFolder
from clicooper_hpc.verification.run_checks import run_checks
from clicooper_hpc.verification.run_evidence import collect_run_evidence

__all__ = ["verify_finished_run"]


def verify_finished_run(folder: RunFolder, keys: Sequence[PublicIdentity]) -> None:
    """Verify a run as `clicooper verify` does, from its files alone; all ranks have closed them.

    While the run went on its owner checked every statement, and rows and files of trainers as far
    as these sent them. What a trainer wrote by itself (tables, heads, checkpoint files) it sees
    only here.

    Parameters
    ----------
    keys
        Of all ranks, owner first, as they were agreed on at the start.

    Raises
    ------
    EvidenceError
        A check fails, so that the run could never be verified.
    """
    owner, *trainers = keys
    evidence = collect_run_evidence(
        open_run(folder.path), owner_key=owner, trainer_keys=trainers, finished=True
    )
    failed = [
        f"check {result.number} ({result.title}) failed: {result.detail}"
        for result in run_checks(evidence)
        if result.passed is False
    ]
    if failed:
        raise EvidenceError(
            f"{'; '.join(failed)}. So the run is not marked complete",
            where=str(folder.path),
            remedy="The rank that is named wrote something else than it signed, or a file was "
            "changed meanwhile. See `clicooper verify`.",
        )

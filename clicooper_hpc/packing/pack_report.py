"""Report of `clicooper verify` on a pack: needs no run, no MPI, no torch, no secrets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clicooper_hpc.errors import ExitCode
from clicooper_hpc.packing.pack_checks import run_pack_checks
from clicooper_hpc.packing.pack_evidence import collect_pack_evidence
from clicooper_hpc.packing.pack_readme import LEFT_OUT
from clicooper_hpc.verification.ledger_view import LedgerView
from clicooper_hpc.verification.report_forms import (
    read_public_key,
    report_as_json,
    report_as_text,
)
from clicooper_hpc.verification.run_checks import has_failed_checks, run_checks_on

__all__ = ["pack_report"]

#: What no check of a pack looks at.
_UNCOVERED: Final = (
    "how the files are stored (permissions and times)",
    "what model.pt2 computes (compared with the weights when it was written; signed)",
    "front and class names of the model (the owner's word; signed)",
    f"what is not packed ({'; '.join(LEFT_OUT)})",
)


def pack_report(
    path: Path, *, owner_key: str | None, trainer_keys: Sequence[str], as_json: bool
) -> tuple[str, ExitCode]:
    """Verify the pack in ``path`` and return the report and the exit code.

    Raises
    ------
    UsageError
        A key is none.
    RunFolderError, EvidenceError
        As `collect_pack_evidence`.
    """
    pack = collect_pack_evidence(
        path,
        owner_key=None if owner_key is None else read_public_key(owner_key),
        trainer_keys=[read_public_key(key, option="--trainer-keys") for key in trainer_keys]
        or None,
    )
    view = LedgerView(pack.evidence)
    results = run_checks_on(view)
    results += run_pack_checks(pack, view, results)
    failed = has_failed_checks(results)
    text = (
        report_as_json(results, (), (), _UNCOVERED)
        if as_json
        else report_as_text(results, (), (), _UNCOVERED, failed=failed)
    )
    return text, ExitCode.VERIFICATION if failed else ExitCode.DONE

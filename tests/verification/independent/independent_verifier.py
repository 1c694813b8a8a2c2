"""`python independent_verifier.py RUN`: verify a run without the package."""

from __future__ import annotations

import sys
from pathlib import Path

from independent_checks import Verifier
from independent_facts import facts_of
from independent_formats import MismatchError


def main(folder: Path) -> int:
    """Print one line a check; exit code as `clicooper verify` has it."""
    try:
        lines = Verifier(facts_of(folder)).report()
    except MismatchError as refused:
        print(f"there is no ledger to look at: {refused}")
        return 2
    for number, verdict, text in lines:
        print(f"{number:2d}  {verdict:8s} {text}")
    return 4 if any(verdict in ("FAILED", "not run") for _, verdict, _ in lines) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""`clicooper` with the toy attacks as its suite; several command lines with ``then`` between."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toy_attacks import TOYS

from clicooper_hpc.cli import main

if __name__ == "__main__":
    lines: list[list[str]] = [[]]
    for argument in sys.argv[1:]:
        if argument == "then":
            lines.append([])
        else:
            lines[-1].append(argument)
    with patch("clicooper_hpc.attacks.harness.run.SUITE", TOYS):
        for line in lines[:-1]:
            # In one write: ranks share the stream.
            print(f"exit code {main(line)}\n", end="", flush=True)
        sys.exit(main(lines[-1]))

"""``python -m clicooper_hpc`` is ``clicooper``."""

import sys

from clicooper_hpc.cli import program

if __name__ == "__main__":
    sys.exit(program())

"""``python -m clicooper_hpc`` is ``clicooper``."""

import sys

from clicooper_hpc.cli import main

if __name__ == "__main__":
    sys.exit(main())

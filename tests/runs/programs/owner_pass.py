"""owner_pass.py FOLDER OUT STOP: release samples one by one into OUT; kill -9 itself before STOP.

What FOLDER/private holds of an earlier pass is used again.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.owner.release_setup import set_up_release
from clicooper_hpc.runstore.private_folder import PrivateFolder

folder, out, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
preparation = set_up_release(load_job(folder / "job.toml"), PrivateFolder(folder / "private"))
with out.open("wb") as file:
    for sample in range(preparation.contract.samples):
        if sample == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        rows, _ = preparation.gate.release("train", np.array([sample]))
        file.write(rows.numpy().tobytes())
        file.flush()

"""Run clicooper, and give one rank a signal at a named moment.

    python killed.py RANK MOMENT COUNT WHAT -- clicooper's arguments

WHAT comes to rank RANK the COUNT-th time it comes to MOMENT: a signal such as SIGKILL, or a path,
which is then made as an empty file. With COUNT 0 nothing happens. Nothing in the package knows of
this. With FROZEN in the environment see frozen.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from frozen import freeze

MOMENTS = ("release", "forward", "backward", "checkpoint", "proof", "delivery")


def places(rank: int, moment: str) -> tuple[Any, str]:
    """Return the object and the name of what is called at ``moment`` on ``rank``."""
    from clicooper_hpc.owner import composed_model, make_gradients, make_moments
    from clicooper_hpc.owner.loop import Owner
    from clicooper_hpc.owner.release_gate import ReleaseGate
    from clicooper_hpc.owner.secrets import OwnerSecrets
    from clicooper_hpc.owner.stage_evidence import StageEvidence
    from clicooper_hpc.owner.sum_charges import SumCharges
    from clicooper_hpc.pipeline.runtime import SegmentRuntime
    from clicooper_hpc.trainer.loop import Trainer
    from clicooper_hpc.trainer.proof_exchange import ProofExchange
    from clicooper_hpc.trainer.release_source import ReleaseSource
    from clicooper_hpc.training import checkpoint_writer
    from clicooper_hpc.training.stop_token import StopToken

    if moment == "checkpoint":
        return checkpoint_writer, "store_checkpoint_file"
    if rank == 0:
        return {
            # Noised, but nothing made of the sums is stored; then stored, but nothing has left.
            "sum": (make_moments, "fit_private_lda"),
            "kept": (OwnerSecrets, "secret_receipts"),
            # Of a round: not charged; charged, not made; made, and the next one not begun.
            "round": (SumCharges, "charge_round"),
            "charged": (make_gradients, "sum_gradients"),
            "made": (make_gradients, "round_context"),
            "release": (ReleaseGate, "release"),
            # The owner computes nothing in a step: between two tokens, and between two reports.
            "forward": (StopToken, "pass_stop_token"),
            "backward": (Owner, "_take_report"),
            "proof": (StageEvidence, "_check_proof"),
            "delivery": (composed_model, "accept_delivery"),
        }[moment]
    return {
        "release": (
            ReleaseSource if rank == 1 else SegmentRuntime,
            "receive" if rank == 1 else "_input",
        ),
        "forward": (SegmentRuntime, "_forward"),
        "backward": (SegmentRuntime, "_backward"),
        "proof": (ProofExchange, "receive_handoff"),
        "delivery": (Trainer, "_deliver_segment"),
    }[moment]


def arm(rank: int, moment: str, count: int, what: str) -> None:
    """Let ``what`` happen at the ``count``-th call."""
    holder, name = places(rank, moment)
    whole: Callable[..., Any] = getattr(holder, name)
    calls = 0

    def fatal(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            if what.startswith("SIG"):
                os.kill(os.getpid(), signal.Signals[what])
            else:
                Path(what).touch()
        return whole(*args, **options)

    setattr(holder, name, fatal)


def main() -> int:
    """Arm the moment on its rank, then run clicooper."""
    rank, moment, count, what = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    if "FROZEN" in os.environ:
        freeze()
    from clicooper_hpc.cli import main as clicooper

    entry: Any = import_module("clicooper_hpc.run.main")
    start = entry.start_mpi

    def armed() -> Any:
        world = start()
        if world.rank == rank:
            arm(rank, moment, count, what)
        return world

    entry.start_mpi = armed
    return clicooper(sys.argv[6:])


if __name__ == "__main__":
    sys.exit(main())

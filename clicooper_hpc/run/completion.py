"""Whether a run has come to its end, as a trainer knows from its own file.

The owner alone looks for what there is to do. An owner that says "nothing" of a run that is not at
its end would have every trainer end with exit code 0, and a script take the run for complete.
"""

from __future__ import annotations

from pathlib import Path

from clicooper_hpc.errors import PeerError, RunFolderError
from clicooper_hpc.runstore.reader import Run, open_run
from clicooper_hpc.runstore.tables.schema import HEADS, STEPS

__all__ = ["check_nothing_to_do", "completion_problem"]


def check_nothing_to_do(path: Path | None, rank: int) -> None:
    """Refuse the owner's word that there is nothing to do unless the run in ``path`` is complete.

    ``path`` None: no run was to be restarted, so there is something to do in any case.

    Raises
    ------
    PeerError
        The index, or the table of this rank, says otherwise.
    RunFolderError
        This rank does not see the run, or its own file.
    """
    problem: str | None = "this start was to begin a run"
    if path is not None:
        run = open_run(path)
        if rank in run.missing_ranks:
            raise RunFolderError(
                "the file is missing, so this rank cannot tell whether the run is complete",
                where=str(run.folder.shard(rank)),
                remedy="Bring back the file the run wrote.",
            )
        problem = completion_problem(run, rank)
    if problem is not None:
        raise PeerError(
            f"there is nothing to do, it says, but {problem}",
            where="message from rank 0 (control)",
            remedy="Bring back the files the run wrote; else rank 0 is at fault",
        )


def completion_problem(run: Run, rank: int) -> str | None:
    """Return why ``run`` is not at its end, by its index and the file of trainer ``rank``; or None.

    With proofs the last tree head tells: a trainer cosigns the ledger with the delivery in it, and
    no other head has such a size, whatever number of stages the index claims. Without proofs the
    last epoch of its rows tells, and the number of epochs is the index's word.
    """
    if run.status != "complete":
        return "the index does not say that the run is complete"
    heads = [int(size) for size in run.table(HEADS.name, rank)["size"]]
    if heads:
        segments, last = len(run.hosts) - 1, max(heads)
        # 1 run statement, an enrolment each, 3 entries a stage and segment, 1 delivery.
        if last < 2 + segments or (last - 2 - segments) % (3 * segments):
            return f"rank {rank} has seen a ledger of {last} entries, which has no delivery"
        return None
    epochs = int(run.job["training"]["epochs"])
    done = 1 + int(max(run.table(STEPS.name, rank)["epoch"], default=-1))
    if done != epochs:
        return f"rank {rank} has rows of {done} epochs of {epochs}"
    return None

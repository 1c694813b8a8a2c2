"""The stop token: a small message down the chain of ranks before each step, continue or stop.

    (1) owner decides about step k -> trainer 1 -> ... -> trainer N
    (2) a rank that is asked to stop says so in the message it passes on
    (3) trainer N's report of the step brings that to the owner, who stops before a later step

All ranks therefore stop before the same step, with nothing under way, whoever was asked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.world import World

__all__ = ["TOKEN_SLOTS", "StopToken"]

#: Steps the owner may be ahead of the last report, and so the latest a request is followed.
TOKEN_SLOTS = 4
_TAG = 1
_BYTES = 16


class StopToken:
    """One rank's link of the chain.

    Parameters
    ----------
    asked
        Whether this rank has been asked to stop.
    deadline_s
        Longest wait for the rank before; `World.set_deadline` changes it later.

    Attributes
    ----------
    requested
        Whether this rank, or one before it, had been asked to stop when the last token passed.
    """

    def __init__(self, world: World, asked: Callable[[], bool], *, deadline_s: float) -> None:
        self._asked = asked
        self.requested = False
        self._before = self._behind = None
        if world.rank > 0:
            self._before = world.open_receiver(
                "control",
                world.rank - 1,
                capacity_bytes=_BYTES,
                slots=TOKEN_SLOTS + 2,
                deadline_s=deadline_s,
                tag=_TAG,
            )
        # Slots for all steps the owner may be ahead, so that passing the token on never blocks.
        if world.rank < world.size - 1:
            self._behind = world.open_sender(
                "control",
                world.rank + 1,
                capacity_bytes=_BYTES,
                slots=TOKEN_SLOTS + 2,
                deadline_s=deadline_s,
                tag=_TAG,
            )

    def pass_stop_token(self, step: int, *, reported: bool = False) -> bool:
        """Take the token and pass it on; return whether ``step`` is to be done.

        Every rank calls this once before each step.

        ``reported``: the last trainer's report said that a rank was asked (owner only).
        """
        stop = False
        # Every rank is asked, not the owner alone: Slurm may signal any of them.
        self.requested = self._asked()
        if self._before is None:
            stop = self.requested or reported
        else:
            message = self._before.receive(Kind.CONTROL, step, 0, dtype=torch.int64, shape=(2,))
            stopping, asked = (int(value) for value in message.tensor)
            self._before.recycle(message)
            # From a neighbour, so it is checked like any message: a wrong one would part the ranks.
            if stopping not in (0, 1) or asked not in (0, 1):
                raise PeerError(
                    f"the stop token of step {step} is neither yes nor no",
                    where=f"message from {self._before.sender} (control)",
                    remedy="Run one clicooper_hpc version on all ranks; else "
                    f"{self._before.sender} is at fault",
                )
            # The decision is the owner's alone; a request is only passed on. A rank that decided by
            # itself would stop at another step than those before it.
            stop, self.requested = bool(stopping), self.requested or bool(asked)
        if self._behind is not None:
            token = torch.tensor([stop, self.requested], dtype=torch.int64)
            self._behind.send(token, Kind.CONTROL, step, 0)
        return not stop

"""The channels of one trainer: to its neighbours, to the owner, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clicooper_hpc.pipeline.runtime import Edges
from clicooper_hpc.training.message_digests import Channel, MessageLog
from clicooper_hpc.transport.kinds import Direction
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.world import World

__all__ = ["ChannelPlan", "TrainerChannels", "open_channels"]

#: Messages from the last trainer to the owner that may be unread before it waits.
REPORT_SLOTS = 8


@dataclass(frozen=True, slots=True)
class ChannelPlan:
    """Sizes both ends of every channel agree on.

    ``rows`` rows of the largest micro-batch; ``average_rows`` released rows behind one of them;
    ``slots`` receive slots that the simulator proved deadlock free, plus one.
    """

    rows: int
    average_rows: int
    slots: int
    outputs: int
    deadline_s: float

    def payload(self, shape: tuple[int, ...], rows_per_row: int = 1) -> int:
        """Bytes of the largest message whose rows have ``shape`` (at most 4 bytes a number).

        A running gradient norm (one float64) uses the same channels.
        """
        return max(8, 4 * self.rows * rows_per_row * int(np.prod(shape)))

    @property
    def report_bytes(self) -> int:
        """Bytes of the largest report to the owner: logits of a micro-batch, or metrics."""
        return max(64, 4 * self.rows * self.outputs)


@dataclass(frozen=True, slots=True)
class TrainerChannels:
    """Everything one trainer sends and receives through."""

    edges: Edges
    release: Receiver | None
    report: Sender | None

    def observe(self, log: MessageLog) -> None:
        """Let ``log`` see everything that enters or leaves the segment in training."""
        ends: dict[Channel, Receiver | Sender | None] = {
            "forward_in": self.release or self.edges.activation_in,
            "forward_out": self.edges.activation_out,
            "backward_in": self.edges.gradient_in,
            "backward_out": self.edges.gradient_out,
        }
        for channel, end in ends.items():
            if end is not None:
                end.observer = log.digest_observer(channel)


def open_channels(
    world: World,
    plan: ChannelPlan,
    *,
    segments: int,
    input_shape: tuple[int, ...],
    output_shape: tuple[int, ...],
    backprop: bool,
    pinned: bool,
) -> TrainerChannels:
    """Open the channels of rank ``world.rank`` (segment of the same number)."""
    rank = world.rank
    first, last = rank == 1, rank == segments
    size_in, size_out = plan.payload(input_shape), plan.payload(output_shape)

    def receiver(direction: Direction, peer: int, capacity: int) -> Receiver:
        return world.receiver(
            direction,
            peer,
            capacity_bytes=capacity,
            slots=plan.slots,
            deadline_s=plan.deadline_s,
            pinned=pinned,
        )

    def sender(direction: Direction, peer: int, capacity: int) -> Sender:
        return world.sender(
            direction,
            peer,
            capacity_bytes=capacity,
            slots=2,
            deadline_s=plan.deadline_s,
            pinned=pinned,
        )

    edges = Edges(
        activation_in=None if first else receiver("forward", rank - 1, size_in),
        activation_out=None if last else sender("forward", rank + 1, size_out),
        gradient_in=receiver("backward", rank + 1, size_out) if backprop and not last else None,
        gradient_out=sender("backward", rank - 1, size_in) if backprop and not first else None,
    )
    release = None
    if first:
        release = receiver("forward", 0, plan.payload(input_shape, plan.average_rows))
    report = None
    if last:
        report = world.sender(
            "control",
            0,
            capacity_bytes=plan.report_bytes,
            slots=REPORT_SLOTS,
            deadline_s=plan.deadline_s,
        )
    return TrainerChannels(edges, release, report)

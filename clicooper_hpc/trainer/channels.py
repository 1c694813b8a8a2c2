"""`TrainerChannels`: channels of one trainer to its neighbours and the owner, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clicooper_hpc.pipeline.runtime import Edges
from clicooper_hpc.training.message_digests import Channel, MessageLog
from clicooper_hpc.transport.channel import ChannelEnd
from clicooper_hpc.transport.message_kind import Direction
from clicooper_hpc.transport.receiver import Receiver
from clicooper_hpc.transport.sender import Sender
from clicooper_hpc.transport.world import World

__all__ = ["ChannelPlan", "TrainerChannels", "open_trainer_channels"]

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

    def payload_bytes(self, shape: tuple[int, ...], rows_per_row: int = 1) -> int:
        """Bytes of the largest message whose rows have ``shape`` (at most 4 bytes a number).

        A running gradient norm (one float64) uses the same channels.
        """
        # float32 at most: rows of 16 bits use half of the slot.
        return max(8, 4 * self.rows * rows_per_row * int(np.prod(shape)))

    @property
    def report_bytes(self) -> int:
        """Bytes of the largest report to the owner: logits of a micro-batch, or metrics."""
        return max(64, 4 * self.rows * self.outputs)


@dataclass(frozen=True, slots=True)
class TrainerChannels:
    """Everything one trainer sends and receives through.

    ``proved`` are the ends whose messages enter the proofs of a stage, by their names in them.
    """

    edges: Edges
    release: Receiver | None
    report: Sender | None
    proved: Mapping[Channel, ChannelEnd]

    def observe_messages(self, log: MessageLog) -> None:
        """Let ``log`` see everything that enters or leaves the segment in training."""
        for channel, end in self.proved.items():
            end.observer = log.digest_observer(channel)


def open_trainer_channels(
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
    size_in, size_out = plan.payload_bytes(input_shape), plan.payload_bytes(output_shape)

    def receiver(direction: Direction, peer: int, capacity: int) -> Receiver:
        return world.open_receiver(
            direction,
            peer,
            capacity_bytes=capacity,
            slots=plan.slots,
            deadline_s=plan.deadline_s,
            pinned=pinned,
        )

    def sender(direction: Direction, peer: int, capacity: int) -> Sender:
        return world.open_sender(
            direction,
            peer,
            capacity_bytes=capacity,
            # One message under way, one being packed; the receiver has the slots a schedule needs.
            slots=2,
            deadline_s=plan.deadline_s,
            pinned=pinned,
        )

    activation_in = None if first else receiver("forward", rank - 1, size_in)
    activation_out = None if last else sender("forward", rank + 1, size_out)
    gradient_in = receiver("backward", rank + 1, size_out) if backprop and not last else None
    gradient_out = sender("backward", rank - 1, size_in) if backprop and not first else None
    release = None
    if first:
        release = receiver("forward", 0, plan.payload_bytes(input_shape, plan.average_rows))
    report = None
    if last:
        report = world.open_sender(
            "control",
            0,
            capacity_bytes=plan.report_bytes,
            slots=REPORT_SLOTS,
            deadline_s=plan.deadline_s,
        )
    # Hand-offs are signed of boundaries between neighbours; the report to the owner is none.
    ends: dict[Channel, ChannelEnd | None] = {
        "forward_in": release or activation_in,
        "forward_out": activation_out,
        "backward_in": gradient_in,
        "backward_out": gradient_out,
    }
    return TrainerChannels(
        Edges(activation_in, activation_out, gradient_in, gradient_out),
        release,
        report,
        {channel: end for channel, end in ends.items() if end is not None},
    )

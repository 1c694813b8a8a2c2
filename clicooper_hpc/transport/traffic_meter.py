"""`TrafficMeter`: what this rank sent, received and waited for since the meter was made."""

from __future__ import annotations

from clicooper_hpc.transport.message_kind import Direction
from clicooper_hpc.transport.world import Way, World

__all__ = ["TrafficMeter"]


class TrafficMeter:
    """Difference of a rank's traffic since the meter was made."""

    def __init__(self, world: World) -> None:
        self._world = world
        # A difference, not a reset: channels count all along, and several meters may be read.
        self._before = world.traffic()

    def read_traffic(self) -> dict[str, float | int]:
        """Return seconds waited, bytes and messages, named as the columns of a run's tables."""
        now, before = self._world.traffic(), self._before

        def bytes_of(direction: Direction, way: Way) -> int:
            return now[direction, way].bytes - before[direction, way].bytes

        def waited(way: str) -> float:
            return sum(now[key].waited_s - before[key].waited_s for key in now if key[1] == way)

        return {
            "wait_recv_s": waited("received"),
            "wait_send_s": waited("sent"),
            "bytes_sent_forward": bytes_of("forward", "sent"),
            "bytes_sent_backward": bytes_of("backward", "sent"),
            "bytes_received_forward": bytes_of("forward", "received"),
            "bytes_received_backward": bytes_of("backward", "received"),
            "messages_sent": sum(
                now[key].messages - before[key].messages for key in now if key[1] == "sent"
            ),
        }

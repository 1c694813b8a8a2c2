"""`GrowthWatch`: notices numbers that grow without bound, against what came before.

A lie below infinity passes every check of form. So the magnitude of each message is compared with
the largest one of the first half of all messages so far: a jump is noticed at once, and so is any
geometric growth sooner or later, however small its factor; growth like a power of time (a warm-up,
weights that leave zero) stays far below. Nobody is accused of it: an honest run that diverges looks
the same.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GROWTH_LIMIT", "Growth", "GrowthWatch"]

#: What counts as unbounded: so many times the largest of the first half.
GROWTH_LIMIT = 1000.0
#: Messages without which there is nothing to compare with.
_SETTLING = 8


@dataclass(frozen=True, slots=True)
class Growth:
    """Numbers ``factor`` times as large as the largest of the ``first`` messages.

    Messages of zeros are not counted. ``since``: step of the last of them; where validation steps
    are among them that says little, for they count on behind the last training step.
    """

    factor: float
    since: int
    first: int


class GrowthWatch:
    """History of the magnitudes of one kind of message from one rank.

    Parameters
    ----------
    settling
        Messages before the first comparison.
    """

    __slots__ = ("_count", "_first", "_half", "_largest", "_largest_since", "_since")

    def __init__(self, settling: int = _SETTLING) -> None:
        #: Messages so far, and those among the first half.
        self._count, self._half = 0, settling
        # Largest magnitude of the first messages, and of what came since; how many are the first,
        # and the step of the last of them.
        self._largest, self._largest_since = 0.0, 0.0
        self._first, self._since = 0, 0

    def note_magnitude(self, magnitude: float, step: int) -> Growth | None:
        """Add a message of ``magnitude`` (finite, >= 0); return how far it has grown, if it has."""
        # A layer that begins at zero sends gradients of zero: they say nothing about size.
        if magnitude == 0.0:
            return None
        self._count += 1
        if self._count <= self._half:
            # Only the first messages get here: later, the first half ends where they double.
            self._largest = max(self._largest, magnitude)
            self._first, self._since = self._count, step
            return None
        largest = self._largest
        self._largest_since = max(self._largest_since, magnitude)
        if magnitude > GROWTH_LIMIT * largest:
            growth = Growth(magnitude / largest, self._since, self._first)
            # From here on only what grows as much again is told: one line for one lie.
            self._largest, self._largest_since = magnitude, 0.0
            self._first, self._since = self._count, step
            return growth
        if self._count >= 2 * self._half:
            self._half = self._first = self._count
            self._since = step
            self._largest, self._largest_since = max(largest, self._largest_since), 0.0
        return None

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
    """Numbers ``factor`` times as large as the largest of all messages up to step ``since``."""

    factor: float
    since: int


class GrowthWatch:
    """History of the magnitudes of one kind of message from one rank.

    Parameters
    ----------
    settling
        Messages before the first comparison.
    """

    __slots__ = ("_count", "_half", "_largest", "_largest_since", "_since")

    def __init__(self, settling: int = _SETTLING) -> None:
        #: Messages so far, and those among the first half.
        self._count, self._half = 0, settling
        # Largest magnitude of the first half, and of what came since; the last step of the first.
        self._largest, self._largest_since = 0.0, 0.0
        self._since = 0

    def note_magnitude(self, magnitude: float, step: int) -> Growth | None:
        """Add a message of ``magnitude`` (finite, >= 0); return how far it has grown, if it has."""
        # A layer that begins at zero sends gradients of zero: they say nothing about size.
        if magnitude == 0.0:
            return None
        self._count += 1
        if self._count <= self._half:
            # Only the first messages get here: later, the first half ends where they double.
            self._largest, self._since = max(self._largest, magnitude), step
            return None
        largest = self._largest
        self._largest_since = max(self._largest_since, magnitude)
        since = self._since
        if magnitude > GROWTH_LIMIT * largest:
            # From here on only what grows as much again is told: one line for one lie.
            self._largest, self._largest_since, self._since = magnitude, 0.0, step
            return Growth(magnitude / largest, since)
        if self._count >= 2 * self._half:
            self._half, self._since = self._count, step
            self._largest, self._largest_since = max(largest, self._largest_since), 0.0
        return None

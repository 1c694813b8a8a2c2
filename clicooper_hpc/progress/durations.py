"""Seconds as text, in the two units that matter."""

from __future__ import annotations

__all__ = ["duration_text"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration_text(seconds: float) -> str:
    """Return ``seconds`` (finite; below 0 counts as 0) as ``8 s``, ``3 min 05 s``, ``2 h 10 min``.

    From two days on ``2 d 04 h``.
    """
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < 2 * _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR:02d} h"

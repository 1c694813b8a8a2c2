"""Whole numbers that the owner sends to all ranks, parsed: it is no more trusted than a trainer."""

from __future__ import annotations

import json

from clicooper_hpc.errors import PeerError

__all__ = ["parse_owner_count", "parse_owner_counts"]

_WHERE = "message from rank 0 (control)"
#: Far above every count there is, and what NumPy's integers hold.
_MOST = 2**62


def parse_owner_count(content: bytes, *, what: str) -> int:
    """Return one whole number >= 0, sent as decimal digits.

    Raises
    ------
    PeerError
        It is none; names ``what`` it was to be.
    """
    if not content.isdigit() or int(content) > _MOST:
        raise PeerError(f"{what} is no number", where=_WHERE)
    return int(content)


def parse_owner_counts(content: bytes, *, what: str) -> list[int]:
    """Return a list of whole numbers >= 0, sent as JSON.

    Raises
    ------
    PeerError
        It is none; names ``what`` they were to be.
    """
    try:
        counts = json.loads(content)
    # RecursionError: of lists nested too deep.
    except (ValueError, RecursionError) as error:
        raise PeerError(f"{what} cannot be read: {error}", where=_WHERE) from None
    # ``type`` and not isinstance: True is an int.
    if not isinstance(counts, list) or not all(
        type(count) is int and 0 <= count <= _MOST for count in counts
    ):
        raise PeerError(f"{what} are no list of numbers", where=_WHERE)
    return counts

"""Read-outs of a front, as the job file spells them: ``"LAYERS:POOL"``, such as ``"12:2x2"``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ReadOut", "longest_read_out", "parse_read_out"]

# One spelling for each: 1x1 would be mean, and 012 would be 12.
_TEXT = re.compile(r"([1-9][0-9]{0,5}):(mean|rms|all|([2-8])x\3)")


@dataclass(frozen=True, slots=True)
class ReadOut:
    """The output behind the first ``after`` layers of a network, pooled by ``pool``."""

    after: int
    pool: str

    def __str__(self) -> str:
        """Return the spelling that `parse_read_out` reads."""
        return f"{self.after}:{self.pool}"


def parse_read_out(text: str) -> ReadOut:
    """Read ``"LAYERS:POOL"``.

    Raises
    ------
    ValueError
        If the text is no read-out.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no read-out: write LAYERS:POOL with POOL mean, rms, all or 2x2 to 8x8, "
            'such as "12:2x2"'
        )
    return ReadOut(int(found[1]), found[2])


def longest_read_out(read_outs: Sequence[ReadOut]) -> int:
    """Return how many layers the read-outs need."""
    return max(one.after for one in read_outs)

"""Who can attack a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clicooper_hpc.attacks.harness.view import Party
from clicooper_hpc.errors import UsageError

__all__ = ["OUTSIDER", "VERIFIER", "holds_rows", "parties_of", "party_named"]

OUTSIDER: Final = "outsider"
VERIFIER: Final = "verifier"


def parties_of(segments: int) -> tuple[Party, ...]:
    """Return who can attack a run of ``segments`` trainers.

    Each trainer alone; neighbours side by side; an outsider with the delivered network; a verifier
    with what is public in the run folder, which is neither rows nor weights.
    """
    numbers = range(1, segments + 1)
    return (
        *(Party(f"trainer {one}", (one,)) for one in numbers),
        *(Party(f"trainers {one}+{one + 1}", (one, one + 1)) for one in numbers[:-1]),
        Party(OUTSIDER, tuple(numbers)),
        Party(VERIFIER, ()),
    )


def party_named(parties: Sequence[Party], name: str) -> Party:
    """Return the one called ``name``; `UsageError` with the names there are."""
    for party in parties:
        if party.name == name:
            return party
    raise UsageError(
        f"there is no party {name!r}",
        where="--party",
        remedy=f"Parties of this run: {', '.join(one.name for one in parties)}.",
    )


def holds_rows(party: Party) -> bool:
    """Tell whether anything of the owner's samples enters a segment of the party."""
    return party.name not in (OUTSIDER, VERIFIER)

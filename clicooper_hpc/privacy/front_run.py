"""The run that made a public front, as the privacy card of another run names it.

What names the signed end of a run is the root of its ledger: under it stand the keys of its owner
and trainers, every proof, and the digests of the delivered segments. The card's line is signed with
the card, so a verifier compares with it what lies in the folder of that run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["FrontRun", "find_front_run"]

_NAME: Final = "front run"
_LINE: Final = re.compile(
    _NAME + r" +([0-9a-f]{32}), ledger ([1-9][0-9]{0,8}) ([0-9a-f]{64}), network ([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class FrontRun:
    """A finished run whose delivered network is the front of another.

    Parameters
    ----------
    run_id
        32 hexadecimal digits.
    entries, root
        Size of its whole ledger, and the root (hex) of the Merkle tree over it.
    network
        Digest (hex) of its delivered segments.
    data
        Name of its data set.
    fingerprint
        That of its training split (hex), None where the data are not at hand.
    accuracy
        Of its delivered model on its own clean test samples, in [0, 1]; None if it has none.
    promise
        What its card guarantees a sample of its data; None where its privacy was off, so that its
        owner says that the data are public.
    """

    run_id: str
    entries: int
    root: str
    network: str
    data: str
    fingerprint: str | None = None
    accuracy: float | None = None
    promise: str | None = None

    def signed_end(self) -> tuple[str, int, str, str]:
        """Return what the card's line names: id, size and root of the ledger, network."""
        return self.run_id, self.entries, self.root, self.network

    def rows(self) -> list[tuple[str, str]]:
        """Return the card's rows, name and text."""
        end = f"{self.run_id}, ledger {self.entries} {self.root}, network {self.network}"
        known = [self.data, f"fingerprint {self.fingerprint or 'not known'}"]
        if self.accuracy is not None:
            known.append(f"{100 * self.accuracy:.3g} % on its clean test samples")
        known.append(
            "no privacy there: public by its owner's word"
            if self.promise is None
            else f"there {self.promise}"
        )
        return [(_NAME, end), ("front data", ", ".join(known))]


def find_front_run(card: str) -> tuple[str, int, str, str] | None:
    """Return `FrontRun.signed_end` from a printed card; None unless one line, and one only, has it.

    That line is all a verifier needs; nothing else of the card is read.
    """
    found = [match for line in card.splitlines() if (match := _LINE.fullmatch(line))]
    if len(found) != 1:
        return None
    run_id, entries, root, network = found[0].groups()
    return run_id, int(entries), root, network

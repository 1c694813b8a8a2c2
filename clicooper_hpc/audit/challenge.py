"""The audit challenge: which stages are audited, drawn from a secret once all proofs are fixed.

A trainer that knew beforehand which stages are replayed would train only those. The draw therefore
depends on a secret of the owner's and on the root of the ledger that holds the proofs: whoever can
still change a proof cannot predict the draw, and whoever can predict it cannot change a proof.

Stages are drawn uniformly, not by how much they changed the weights: a choice by size is known in
advance and can be avoided (Fang et al., EuroS&P 2023, arXiv 2208.03567).
"""

from __future__ import annotations

from fractions import Fraction
from math import comb

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["challenge_detection_probability", "challenge_stages_needed", "draw_challenge"]

_INFO = b"clicooper/v1/audit-challenge\x00"
_WORD_BYTES = 8


def draw_challenge(secret: bytes, ledger_root: bytes, stages: int, count: int) -> list[int]:
    """Draw ``count`` of the stages 0 .. ``stages`` - 1, each at most once, in order of drawing.

    The first words of a ChaCha20 stream, keyed by HKDF-SHA256 (RFC 5869) of ``secret`` with
    ``ledger_root`` and the number of stages as info, steer a Fisher-Yates shuffle; words that would
    favour small numbers are passed over. A longer draw begins with the shorter one.

    Parameters
    ----------
    secret
        At least 16 bytes that only the auditor knows until the challenge is made.
    ledger_root
        Root (32 bytes) of the ledger once it holds the proofs of all these stages.
    stages, count
        1 <= count <= stages.
    """
    if len(secret) < 16 or len(ledger_root) != SHA256.digest_size:
        raise ValueError("a challenge needs a secret of 16 bytes or more and a root of 32")
    if not 1 <= count <= stages:
        raise ValueError(f"cannot draw {count} of {stages} stages")
    info = _INFO + ledger_root + stages.to_bytes(_WORD_BYTES, "little")
    words = _UniformWords(HKDF(SHA256(), 32, salt=None, info=info).derive(secret))
    # A shuffle from the front, cut off: a longer draw then begins with the shorter one.
    order = list(range(stages))
    for place in range(count):
        chosen = place + words.uniform_below(stages - place)
        order[place], order[chosen] = order[chosen], order[place]
    return order[:count]


def challenge_detection_probability(bad: int, stages: int, count: int) -> float:
    """Return the probability that a draw of ``count`` of ``stages`` stages has one of ``bad``.

    Exact: 1 - C(stages - bad, count) / C(stages, count) (hypergeometric). What an audit finds of a
    bad stage it finds with certainty; this is the chance to look at one.
    """
    if not 0 <= bad <= stages or not 0 <= count <= stages:
        raise ValueError(f"{bad} bad and {count} drawn of {stages} stages")
    # In fractions: binomials of many stages overflow floats.
    return float(1 - Fraction(comb(stages - bad, count), comb(stages, count)))


def challenge_stages_needed(bad: int, stages: int, probability: float) -> int:
    """Return the smallest draw that has one of ``bad`` >= 1 stages with ``probability`` or more."""
    if not 1 <= bad <= stages or not 0 < probability <= 1:
        raise ValueError(f"{bad} bad of {stages} stages found with probability {probability}")
    return next(
        count
        for count in range(1, stages + 1)
        if challenge_detection_probability(bad, stages, count) >= probability
    )


class _UniformWords:
    """Uniform 64-bit words of the ChaCha20 stream of a 32-byte key (nonce and counter zero)."""

    def __init__(self, key: bytes) -> None:
        # Nonce zero: the key is derived for this one ledger and used for one draw.
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def uniform_below(self, limit: int) -> int:
        """Return the next uniform number in [0, limit)."""
        words = 2 ** (8 * _WORD_BYTES)
        while True:
            word = int.from_bytes(self._stream.update(bytes(_WORD_BYTES)), "little")
            # Else the last, incomplete cycle of remainders would favour small numbers.
            if word < words - words % limit:
                return word % limit

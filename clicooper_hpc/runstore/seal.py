"""Digest of what the index of a run says by itself: job, environment, pipeline, card, results.

Tables have their own digests (`rows_digest`); together nothing a user reads in a run is unsigned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.runstore.h5 import Attribute

__all__ = ["IndexContent", "card_digest", "owner_tables_digest"]

SEAL_TAG = "clicooper/v1/index"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexContent:
    """The same values whether they are about to be written or were read back.

    ``attrs`` root attributes without ``status``; ``privacy`` attributes of the privacy card;
    ``promised`` and ``card`` its text before the first release and at the end; ``scales`` the
    numbers of ranks, layers and segments along the axes.
    """

    attrs: Mapping[str, Attribute]
    hosts: Sequence[str]
    cuts: Sequence[int]
    schedule: str
    layer_names: Sequence[str]
    privacy: Mapping[str, Attribute]
    promised: str
    card: str
    results: Mapping[str, Attribute]
    scales: Sequence[Sequence[int]]

    def seal(self) -> Digest:
        """Digest of all of it, as sorted JSON."""
        content = asdict(self)
        content["attrs"] = {k: v for k, v in self.attrs.items() if k != "status"}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=list)
        return digest_bytes(SEAL_TAG, text.encode())


def card_digest(text: str) -> Digest:
    """Digest of a privacy card as printed before the first release."""
    return digest_bytes("clicooper/v1/card", text.encode())


def owner_tables_digest(rows: Digest, index: Digest) -> Digest:
    """Digest of all the owner writes into a run: its tables, and the index itself."""
    return digest_bytes("clicooper/v1/owner-tables", rows.value + index.value)

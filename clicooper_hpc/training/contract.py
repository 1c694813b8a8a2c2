"""The contract: shapes and counts the owner sends all trainers before the first step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from clicooper_hpc.errors import PeerError

__all__ = ["Contract"]


@dataclass(frozen=True, slots=True)
class Contract:
    """Shapes and counts every rank needs to build its part.

    ``release_shape`` shape of one released row; ``samples`` and ``validation_samples`` released
    samples per split; ``outputs`` number of sub-labels.
    """

    release_shape: tuple[int, ...]
    samples: int
    validation_samples: int
    outputs: int

    def encode_contract(self) -> bytes:
        """Encode for the wire."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode_contract(cls, payload: bytes) -> Contract:
        """Decode; anything that is not exactly a contract is refused."""
        try:
            table = json.loads(payload)
            # JSON knows no tuples, and shapes are compared as tuples.
            shape = tuple(table.pop("release_shape"))
            contract = cls(release_shape=shape, **table)
            numbers = (*shape, contract.samples, contract.validation_samples, contract.outputs)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise PeerError(f"the owner's contract cannot be read: {error}") from None
        # ``type`` and not isinstance: True is an int. Buffers are sized by these numbers, before
        # anything else of the owner's was checked.
        if not shape or not all(type(n) is int and n >= 0 for n in numbers):
            raise PeerError("the owner's contract holds something else than counts")
        return contract

"""The contract: shapes and counts the owner sends all trainers before the first step."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

from clicooper_hpc.errors import PeerError

__all__ = ["Contract"]

# Networks and buffers are sized by a contract before anything else of the owner's is checked, so
# how much memory they take is not for the owner alone to say. Numbers of a row (64 MiB of float32),
# sub-labels, samples (their sub-labels: 8 GiB).
_MOST_NUMBERS = 2**24
_MOST_OUTPUTS = 2**20
_MOST_SAMPLES = 2**31
_WHERE = "message from rank 0 (control)"


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
        # RecursionError: of lists nested too deep.
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise PeerError(f"the owner's contract cannot be read: {error}", where=_WHERE) from None
        # ``type`` and not isinstance: True is an int. Buffers are sized by these numbers, before
        # anything else of the owner's was checked.
        if not shape or not all(type(n) is int and n >= 0 for n in numbers):
            raise PeerError("the owner's contract holds something else than counts", where=_WHERE)
        for what, count, least, most in (
            ("numbers of a row", math.prod(shape), 1, _MOST_NUMBERS),
            ("samples", contract.samples, 1, _MOST_SAMPLES),
            ("validation samples", contract.validation_samples, 0, _MOST_SAMPLES),
            ("sub-labels", contract.outputs, 1, _MOST_OUTPUTS),
        ):
            if not least <= count <= most:
                raise PeerError(
                    f"the owner's contract says {count} {what}; {least} to {most} are possible",
                    where=_WHERE,
                )
        return contract

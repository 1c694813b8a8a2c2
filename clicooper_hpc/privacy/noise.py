"""The noise of a release: one row for each sample, regenerated from a key, never stored.

The stream key is derived from the master key and the digest of the release context, which names
the split, the front, the data and every parameter of the mechanism. Change any of them and the
noise is independent; change none and it is the same bits in any order, batch split or restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.privacy.keyed_stream import KeyedStream
from clicooper_hpc.privacy.master_key import MasterKey, RngMode
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.rounded_gaussian import RoundedGaussian, rounded_gaussian

__all__ = ["NoiseStream", "ReleaseContext", "RoundedGaussian"]

# Words drawn at a time: enough to be fast, little enough to stay in cache.
_CHUNK = 1 << 17


@dataclass(frozen=True, slots=True)
class ReleaseContext:
    """What one release is: its noise is bound to all of it.

    Parameters
    ----------
    split
        ``"train"``, ``"validation"``, ``"test"``, or ``"spent"`` for class sums.
    front
        Digest of the front's weights and architecture.
    data
        Digest of the split's data (fingerprint of samples and their order).
    spec
        The solved mechanism.
    """

    split: str
    front: Digest
    data: Digest
    spec: ReleaseSpec

    def digest(self) -> Digest:
        """Digest that identifies the release."""
        parts = {
            "split": self.split,
            "front": str(self.front),
            "data": str(self.data),
            "spec": str(self.spec.digest()),
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return digest_bytes("clicooper/v1/release-context", text.encode("ascii"))


class NoiseStream:
    """Rounded Gaussian noise by sample id.

    Parameters
    ----------
    master_key
        The owner's secret.
    context
        The release the noise belongs to.
    """

    __slots__ = ("_sampler", "_stream", "context", "mode")

    def __init__(self, master_key: MasterKey, context: ReleaseContext) -> None:
        self.context = context
        self.mode: RngMode = master_key.mode
        # Keyed by all that makes the release: the same noise on other rows would show how the clean
        # rows differ.
        self._stream = KeyedStream(master_key.derive_key("noise", context.digest().value))
        self._sampler = rounded_gaussian(context.spec.sigma_over_grid)

    def __repr__(self) -> str:
        return f"NoiseStream(release={self.context.digest().hex[:16]}, mode={self.mode!r})"

    def draw_noise(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the noise of the given samples in grid steps: int32 [n, d]."""
        d = self.context.spec.guarantee.dimension
        noise = np.empty((ids.size, d), dtype=np.int32)
        step = max(1, _CHUNK // d)
        for start in range(0, ids.size, step):
            part = ids[start : start + step]

            # For numbers so near a threshold of the table that their first word does not decide.
            def more(position: int, part: NDArray[np.int64] = part) -> Iterator[int]:
                row, column = divmod(position, d)
                return self._stream.draw_more_words(int(part[row]), column)

            noise[start : start + step] = self._sampler.sample_rounded_gaussian(
                self._stream.draw_words(part, d), more
            )
        return noise

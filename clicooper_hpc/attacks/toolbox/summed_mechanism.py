"""The mechanism that releases sums of a run, with noise of its own, for any rows.

The code is that of a run (`MomentSums` and `noised_moments`, or `grid_class_sums` and
`noised_class_sums`) with the run's sigma and grid; the run's key is not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.summed_release import (
    HeldRelease,
    SummedRelease,
    summed_moments,
)
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.class_sums import (
    class_sums_context,
    grid_class_sums,
    noised_class_sums,
)
from clicooper_hpc.privacy.master_key import INSECURE, MasterKey
from clicooper_hpc.privacy.moments import MomentSums, moments_context, noised_moments
from clicooper_hpc.privacy.noise import NoiseStream
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "RELEASES",
    "SummedMechanism",
    "recorded_mechanism",
    "released_noise",
    "repeated_releases",
]

#: Releases that the targets of an informed attacker are dealt over.
RELEASES: Final = 64

_TAG: Final = "clicooper/v1/summed-attack"

#: Sums over samples with noise: rows float64 [n, p], classes int64 [n], their number K, and which
#: data set it is, int: each has noise of its own.
SummedMechanism = Callable[[NDArray[np.float64], NDArray[np.int64], int, int], SummedRelease]


@dataclass(frozen=True, slots=True)
class _RecordedMechanism:
    """See `recorded_mechanism`."""

    mode: str
    spec: ReleaseSpec
    purpose: str
    seed: int

    def __call__(
        self, rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        spec = replace(self.spec, guarantee=replace(self.spec.guarantee, dimension=rows.shape[1]))
        # Keyed apart from every run's, also from those of reproducible jobs with the same seed.
        secret = digest_bytes(_TAG, f"{self.purpose}, key {self.seed}".encode("ascii")).value
        master = MasterKey(secret, INSECURE)
        front = digest_bytes(_TAG, b"samples of an attack")
        source = front, digest_bytes(_TAG, f"data set {data}".encode("ascii"))
        if self.mode == "sums":
            whole = grid_class_sums(rows, classes, count, spec)
            stream = NoiseStream(master, class_sums_context(*source, spec))
            return SummedRelease(noised_class_sums(whole, stream), len(rows), spec.sigma)
        sums = MomentSums(count, rows.shape[1], spec)
        sums.add_rows(rows, classes)
        return summed_moments(noised_moments(sums, moments_context(*source, spec), master))


def recorded_mechanism(mode: str, spec: ReleaseSpec, purpose: str, seed: int) -> SummedMechanism:
    """Return the mechanism ``spec`` of ``release.mode = mode`` for any rows.

    Of ``"gradients"`` that of its moments, which is ``spec`` then.
    Attacks of different ``purpose`` have different noise.
    """
    return _RecordedMechanism(mode, spec, purpose, seed)


def released_noise(mechanism: SummedMechanism, like: SummedRelease, data: int) -> SummedRelease:
    """Return the noise of one release in the shape of ``like``: of no sample at all."""
    classes, width = like.sums.shape
    return mechanism(np.empty((0, width)), np.empty(0, dtype=np.int64), classes, data)


def repeated_releases(
    held: HeldRelease, mechanism: SummedMechanism | None
) -> Iterator[HeldRelease]:
    """Yield ``held``, then the same sums released again with other noise: 64 in all.

    Without a ``mechanism`` there is no noise, and ``held`` is all there is.
    """
    yield held
    if mechanism is None:
        return
    for number in range(1, RELEASES):
        noise = released_noise(mechanism, held.exact, number)
        again = replace(held.exact.plus(noise), sigma=noise.sigma)
        yield HeldRelease(again, held.exact)

"""A guarantee solved for its noise: sigma, the grid of released values, and what both cost.

The grid g is a power of two no wider than C / 1024 and sigma / 64, so it costs the row under a
thousandth of its clip bound a coordinate and vanishes in the noise; released values are integer
multiples of g below 2^24 g, hence exact in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon, gaussian_mu, gaussian_sigma
from clicooper_hpc.privacy.sensitivity import Guarantee, sample_sensitivity, unit_sensitivity

__all__ = ["MAX_INTEGER", "ReleaseSpec", "solve_release_spec"]

# The largest integer n such that n and -n, and all integers between, are exact in float32.
MAX_INTEGER = 2**24 - 1

# |N(0, 1)| exceeds this with a chance below 2^-75.
_NOISE_REACH = 10.0


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """Everything that fixes the distribution of a released row, given the clean row.

    Parameters
    ----------
    guarantee
        The promise.
    grid
        g, a power of two; released values are multiples of it.
    sensitivity, sensitivity_reason
        L2 distance between neighbours' rows on the grid, and why.
    sigma
        Standard deviation of the noise before it is rounded to the grid.
    mu
        ``sensitivity / sigma``.
    sample_sensitivity, sample_mu, sample_epsilon
        The same between two samples, at the guarantee's delta. Equal to the above, and
        ``sample_epsilon`` to at most the claimed epsilon, for the sample unit.
    """

    guarantee: Guarantee
    grid: float
    sensitivity: float
    sensitivity_reason: str
    sigma: float
    mu: float
    sample_sensitivity: float
    sample_mu: float
    sample_epsilon: float

    @property
    def sigma_over_grid(self) -> float:
        """Noise in grid steps; exact, since g is a power of two."""
        return self.sigma / self.grid

    @property
    def clip_over_grid(self) -> float:
        """Clip bound in grid steps; exact, since g is a power of two."""
        return self.guarantee.clip / self.grid

    @property
    def squared_norm_limit(self) -> int:
        """Largest sum of squares of an integer row inside the L2 ball: floor((C / g)^2)."""
        # Exact: the comparison with sums of squares is what bounds a row.
        return math.floor(Fraction(self.clip_over_grid) ** 2)

    def charge(self) -> Charge:
        """Cost of one release between neighbours of the guarantee's own unit."""
        return Charge.gaussian(self.mu, self.guarantee.relation)

    def sample_charge(self) -> Charge:
        """Cost of one release between whole samples."""
        return Charge.gaussian(self.sample_mu, self.guarantee.relation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; floats as strings that `from_dict` reads back to the bit."""
        return {
            key: _plain(asdict(self.guarantee)) if key == "guarantee" else _as_text(value)
            for key, value in ((f.name, getattr(self, f.name)) for f in fields(self))
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ReleaseSpec:
        """Rebuild a spec from `to_dict`."""
        return cls(
            guarantee=Guarantee(**_read(Guarantee, stored["guarantee"])),
            **_read(cls, {k: v for k, v in stored.items() if k != "guarantee"}),
        )

    def digest(self) -> Digest:
        """Digest of the parameters; noise is keyed by it."""
        # Floats stand in it as texts, so equal parameters have equal digests on every machine.
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return digest_bytes("clicooper/v1/release-spec", text.encode("ascii"))


def solve_release_spec(guarantee: Guarantee) -> ReleaseSpec:
    """Choose grid and noise such that the guarantee holds for the values really released.

    Raises
    ------
    UsageError
        When clip bound and noise are too far apart for exact float32 values.
    """
    grid = _power_of_two_below(guarantee.clip / 1024)
    if guarantee.metric_distance is not None:
        # Cutting to the grid shall cost the metric unit at most 1/64 more noise.
        slack = 64 * (math.sqrt(guarantee.dimension) + 1)
        grid = min(grid, _power_of_two_below(guarantee.metric_distance / slack))
    # A finer grid changes the sensitivity of the metric unit, and with it sigma: both are settled
    # together.
    while True:
        sensitivity = unit_sensitivity(guarantee, grid)
        sigma = gaussian_sigma(guarantee.epsilon, guarantee.delta, sensitivity.value)
        if grid <= sigma / 64:
            break
        grid = _power_of_two_below(sigma / 64)
    # Beyond 2^24 float32 skips integers, and what is sent would be rounded after the noise.
    if guarantee.clip / grid + _NOISE_REACH * sigma / grid > MAX_INTEGER:
        larger = sigma > guarantee.clip
        raise UsageError(
            f"epsilon {guarantee.epsilon:.6g} at delta {guarantee.delta:.6g} takes noise of "
            f"{sigma:.6g}, and rows up to {guarantee.clip:.6g} and it do not fit one float32 grid",
            where="privacy.epsilon",
            remedy=f"Choose a {'larger' if larger else 'smaller'} epsilon"
            + ("." if guarantee.unit != "metric" else ", or a larger distance."),
        )
    sample = sample_sensitivity(guarantee).value
    return ReleaseSpec(
        guarantee=guarantee,
        grid=grid,
        sensitivity=sensitivity.value,
        sensitivity_reason=sensitivity.reason,
        sigma=sigma,
        mu=gaussian_mu(sigma, sensitivity.value),
        sample_sensitivity=sample,
        sample_mu=gaussian_mu(sigma, sample),
        sample_epsilon=gaussian_epsilon(sigma, guarantee.delta, sample),
    )


def _power_of_two_below(value: float) -> float:
    """Return the largest power of two that is at most ``value``."""
    return math.ldexp(1.0, math.frexp(value)[1] - 1)


def _as_text(value: object) -> object:
    return repr(value) if isinstance(value, float) else value


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {key: _as_text(value) for key, value in values.items() if value is not None}


def _read(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the texts of ``kind``'s float fields back into floats."""
    floats = {f.name for f in fields(kind) if "float" in str(f.type)}
    return {
        key: float(value) if key in floats and isinstance(value, str) else value
        for key, value in stored.items()
    }

"""Privacy accounting: charges, their composition, and a cross-check by another accountant.

Composition: Gaussian mechanisms on the same sample compose exactly, as one Gaussian mechanism of
mu = sqrt(sum mu_i^2) (Dong, Roth and Su 2019, Corollary 3.3). Everything else, randomised response
(pure epsilon) and a front trained with DP-SGD (epsilon, delta), is added by basic composition.

Neighbours must be the same before costs may be added: a cost under zero-out (or add-remove, as in
DP-SGD) is two steps under replace-one, since one row goes and another comes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = ["Charge", "CrossCheck", "compose_charges", "cross_check_accounting"]

_RENYI_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64))


@dataclass(frozen=True, slots=True)
class Charge:
    """What one mechanism costs a sample it is applied to.

    Parameters
    ----------
    mu
        Of its Gaussian part, ``sensitivity / sigma``; 0 if there is none.
    epsilon, delta
        Of its part that is not Gaussian.
    relation
        The neighbouring relation these are stated for.
    """

    mu: float = 0.0
    epsilon: float = 0.0
    delta: float = 0.0
    relation: Relation = "replace-one"

    def __post_init__(self) -> None:
        if not (self.mu >= 0 and self.epsilon >= 0 and 0 <= self.delta <= 1):
            raise ValueError(f"no such charge: {self.mu!r}, {self.epsilon!r}, {self.delta!r}")

    @classmethod
    def gaussian(cls, mu: float, relation: Relation = "replace-one") -> Charge:
        """Return the cost of a Gaussian release."""
        return cls(mu=mu, relation=relation)

    @classmethod
    def pure(cls, epsilon: float) -> Charge:
        """Return the cost of a pure mechanism, such as randomised response."""
        return cls(epsilon=epsilon)

    @classmethod
    def approximate(cls, epsilon: float, delta: float, relation: Relation) -> Charge:
        """Return the cost of a mechanism known by one (epsilon, delta), such as DP-SGD."""
        return cls(epsilon=epsilon, delta=delta, relation=relation)

    @classmethod
    def unbounded(cls) -> Charge:
        """Return the cost of sending something as it is."""
        return cls(epsilon=math.inf)

    def under(self, relation: Relation) -> Charge:
        """Restate the cost for another relation.

        A row may be replaced by the zero row, so a replace-one cost covers zero-out. The other way
        is group privacy of two: mu and epsilon double, delta grows by 1 + exp(epsilon).
        """
        # The stronger relation implies the weaker one; the other way leads over the zero row, which
        # is two steps.
        if relation == self.relation or relation == "zero-out":
            return Charge(self.mu, self.epsilon, self.delta, relation)
        # Beyond 709 exp overflows float64; delta is 1 long before.
        delta = min(1.0, self.delta * (1 + math.exp(min(self.epsilon, 700.0))))
        return Charge(2 * self.mu, 2 * self.epsilon, delta, relation)


def compose_charges(
    charges: Iterable[Charge], delta: float, relation: Relation = "replace-one"
) -> tuple[float, float]:
    """Return (epsilon, delta) of all charges on the same sample.

    Parameters
    ----------
    charges
        What the sample was put through.
    delta
        The total delta to state epsilon at. Deltas of single charges are taken out of it, the
        Gaussian part gets what is left.
    relation
        The relation to state the result for.

    Returns
    -------
    tuple[float, float]
        Epsilon, infinite if ``delta`` does not cover the single deltas, or is 1, which promises
        nothing; and the delta needed:
        ``delta`` if anything Gaussian was composed, else the sum of the single deltas.
    """
    stated = [charge.under(relation) for charge in charges]
    # Gaussian parts compose to the root of the sum of squares, exactly; only the rest is added by
    # the weaker basic composition.
    mu = math.hypot(*(charge.mu for charge in stated))
    epsilon = math.fsum(charge.epsilon for charge in stated)
    spent = math.fsum(charge.delta for charge in stated)
    # Each mechanism with a delta of its own uses up a part of the total; what is left states the
    # Gaussian part.
    left = delta - spent
    if left < 0 or delta >= 1 or (mu > 0 and left == 0) or math.isinf(epsilon) or math.isinf(mu):
        return math.inf, max(delta, spent)
    if mu == 0:
        return epsilon, spent
    return gaussian_epsilon(1.0, left, mu) + epsilon, delta


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """Epsilon of one full release by another accountant, an upper bound."""

    rdp: float


def cross_check_accounting(noise_multiplier: float, delta: float) -> CrossCheck:
    """Account for one full release by Renyi differential privacy (Mironov 2017).

    Of order a, a Gaussian mechanism has Renyi epsilon a / (2 m^2), m the noise multiplier; what it
    is as (epsilon, delta) is by Balle, Barthe, Gaboardi, Hsu and Sato 2020, theorem 21. The orders
    are those of Opacus, so the figure is that of its ``RDPAccountant``
    (``tests/privacy/test_accounting.py``), without the seconds that importing it takes.

    Parameters
    ----------
    noise_multiplier
        ``sigma / sensitivity``.
    delta
        In (0, 1).
    """
    return CrossCheck(
        min(
            order / (2 * noise_multiplier**2)
            - (math.log(delta) + math.log(order)) / (order - 1)
            + math.log1p(-1 / order)
            for order in _RENYI_ORDERS
        )
    )

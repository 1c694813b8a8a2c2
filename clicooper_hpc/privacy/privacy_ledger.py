"""The privacy ledger: every outgoing tensor is an event, checked against the budget before it goes.

What a sample has paid is the composition of all charges on its split; samples of different splits
are different samples, so a run has spent the maximum over its splits. Training samples that pay for
class sums instead of a release (`privacy.class_sums`) are a split of their own, ``"spent"``. Events
that belong to one release (same release name) charge each sample once, however many batches carry
it, and sending again what was sent before is free: it is the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from clicooper_hpc.errors import BudgetExceededError, UsageError
from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = ["SUM_KINDS", "EventKind", "PrivacyBudget", "PrivacyEvent", "PrivacyLedger"]

EventKind = Literal[
    "front-training",
    "class-sums",
    "moments",
    "gradients",
    "training-release",
    "validation-release",
    "labels",
    "prediction",
]

#: Sums that are paid for when they are made: what is made of them leaves later, and costs nothing.
SUM_KINDS: Final[tuple[EventKind, ...]] = ("moments", "gradients")


@dataclass(frozen=True, slots=True)
class PrivacyBudget:
    """The most one sample may pay in a run.

    Parameters
    ----------
    epsilon, delta
        Upper bounds, both kept.
    unit
        ``Guarantee.unit_label`` of the release, or ``"sample"``: then releases of other units
        count with what they cost a whole sample.
    relation
        Neighbours the budget is stated for.
    """

    epsilon: float
    delta: float
    unit: str = "sample"
    relation: Relation = "replace-one"

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and 0 < self.delta < 1):
            raise UsageError(
                f"({self.epsilon!r}, {self.delta!r}) is no budget",
                where="privacy.budget_epsilon",
                remedy="Give an epsilon of at least 0 and a delta between 0 and 1.",
            )


@dataclass(frozen=True, slots=True)
class PrivacyEvent:
    """Something about samples that leaves the owner.

    Parameters
    ----------
    kind, split
        What is sent, of which split.
    samples
        How many samples it concerns that this release has not covered yet. 0 sends again.
    release
        Name of the release the event belongs to, such as the context digest in hex.
    mechanism
        What was done to the values, for people.
    unit
        Unit ``charge`` is stated for.
    charge
        Cost for that unit. None, for labels only, says that the guarantee does not cover them.
    sample_charge
        Cost for a whole sample; the same as ``charge`` unless the unit is smaller.
    """

    kind: EventKind
    split: str
    samples: int
    release: str
    mechanism: str
    unit: str
    charge: Charge | None
    sample_charge: Charge | None

    def __post_init__(self) -> None:
        if self.kind not in get_args(EventKind) or self.samples < 0:
            raise ValueError(f"no such event: {self.kind!r} of {self.samples} samples")
        if (self.charge is None) != (self.sample_charge is None):
            raise ValueError("an event has both charges or neither")
        if self.charge is None and self.kind != "labels":
            raise ValueError(f"a {self.kind} event needs a charge")


class PrivacyLedger:
    """All events of a run, one entry a release.

    Parameters
    ----------
    budget
        None for a run without one, the only kind in which privacy may be off.
    """

    __slots__ = ("_entries", "budget")

    def __init__(self, budget: PrivacyBudget | None = None) -> None:
        self.budget = budget
        self._entries: dict[tuple[str, str, str], PrivacyEvent] = {}

    @property
    def entries(self) -> tuple[PrivacyEvent, ...]:
        """One event a release, in order of its first send, with the samples added up."""
        return tuple(self._entries.values())

    def authorise_event(self, event: PrivacyEvent) -> None:
        """Check an event against the budget and enter it. Call before the send.

        Raises
        ------
        BudgetExceededError
            When a sample would pay more than the budget. The ledger is as before.
        """
        name = (event.split, event.kind, event.release)
        known = self._entries.get(name)
        # The same name for another mechanism would hide its cost behind the first entry.
        if known is not None and replace(known, samples=event.samples) != event:
            raise ValueError(f"release {event.release!r} was entered with other terms")
        # Tried on a copy, so that a refused event leaves the ledger as it was.
        after = dict(self._entries)
        if event.samples:
            total = event.samples + (known.samples if known else 0)
            after[name] = replace(event, samples=total)
        if self.budget is None:
            self._entries = after
            return
        budget = self.budget
        # For the message alone: who is refused wants to know how much was left.
        before = _spent(self._entries, budget.delta, budget.unit, budget.relation)
        now = _spent(after, budget.delta, budget.unit, budget.relation)
        if now[0] > budget.epsilon or now[1] > budget.delta:
            raise BudgetExceededError(
                f"sending {event.samples} samples ({event.mechanism}) would bring a sample of "
                f"this split to epsilon {now[0]:.6g}; spent so far {before[0]:.6g}, budget "
                f"{budget.epsilon:.6g} at delta {budget.delta:.3g} per {budget.unit} "
                f"({budget.relation})",
                where=f"{event.kind}, split {event.split!r}",
                remedy="Nothing was sent. Raise the budget, lower the epsilon of the releases, or "
                "release less.",
            )
        self._entries = after

    def spent_epsilon(
        self, delta: float, unit: str = "sample", relation: Relation = "replace-one"
    ) -> tuple[float, float]:
        """Return (epsilon, delta) of the sample that has paid most, stated at ``delta``."""
        return _spent(self._entries, delta, unit, relation)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; floats as strings that read back to the bit."""
        budget = self.budget
        return {
            "budget": None
            if budget is None
            else {
                "epsilon": repr(budget.epsilon),
                "delta": repr(budget.delta),
                "unit": budget.unit,
                "relation": budget.relation,
            },
            "entries": [_event_to_dict(event) for event in self.entries],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PrivacyLedger:
        """Read `to_dict`; ``ValueError`` if it did not make ``stored``."""
        try:
            b = stored["budget"]
            ledger = cls(
                None
                if b is None
                else PrivacyBudget(float(b["epsilon"]), float(b["delta"]), b["unit"], b["relation"])
            )
            for values in stored["entries"]:
                event = _event_from_dict(values)
                ledger._entries[event.split, event.kind, event.release] = event
        except (LookupError, TypeError, AttributeError, ArithmeticError, UsageError) as error:
            raise ValueError(f"this is not a privacy ledger: {error}") from error
        # An entry given twice, or a number spelt otherwise, would be read as less than was spent.
        if ledger.to_dict() != stored:
            raise ValueError("this is not a privacy ledger as it is written")
        return ledger


def _spent(
    entries: Mapping[tuple[str, str, str], PrivacyEvent],
    delta: float,
    unit: str,
    relation: Relation,
) -> tuple[float, float]:
    charges: dict[str, list[Charge]] = {}
    for event in entries.values():
        charge = event.sample_charge
        # A cost per sample holds for every smaller unit; the reverse does not.
        if unit not in ("sample", event.unit) and event.unit != "sample":
            raise UsageError(
                f"a cost per {event.unit} cannot be stated per {unit}",
                where="privacy.budget_epsilon",
                remedy="Use the unit of the release, or sample.",
            )
        if unit == event.unit:
            charge = event.charge
        # None is a label map: a secret without a guarantee adds nothing to a DP total, and the card
        # says so.
        if charge is not None:
            charges.setdefault(event.split, []).append(charge)
    # Splits hold different samples (parallel composition), so the run has spent the maximum, not
    # the sum.
    totals = [compose_charges(listed, delta, relation) for listed in charges.values()]
    return max((t[0] for t in totals), default=0.0), max((t[1] for t in totals), default=0.0)


def _charge_to_dict(charge: Charge | None) -> dict[str, str] | None:
    if charge is None:
        return None
    return {
        "mu": repr(charge.mu),
        "epsilon": repr(charge.epsilon),
        "delta": repr(charge.delta),
        "relation": charge.relation,
    }


def _charge_from_dict(stored: Mapping[str, Any] | None) -> Charge | None:
    if stored is None:
        return None
    mu, epsilon, delta = (float(stored[key]) for key in ("mu", "epsilon", "delta"))
    return Charge(mu, epsilon, delta, stored["relation"])


def _event_to_dict(event: PrivacyEvent) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "split": event.split,
        "samples": event.samples,
        "release": event.release,
        "mechanism": event.mechanism,
        "unit": event.unit,
        "charge": _charge_to_dict(event.charge),
        "sample_charge": _charge_to_dict(event.sample_charge),
    }


def _event_from_dict(stored: Mapping[str, Any]) -> PrivacyEvent:
    charges = {key: _charge_from_dict(stored[key]) for key in ("charge", "sample_charge")}
    return PrivacyEvent(**{**stored, **charges})

"""Charges moments and each round of gradients once, before it is made."""

from __future__ import annotations

from dataclasses import replace

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.budget import RunCosts, release_changed
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.gradient_sums import SplitPromise
from clicooper_hpc.privacy.moments import moments_context
from clicooper_hpc.privacy.privacy_ledger import EventKind, PrivacyEvent, PrivacyLedger
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = ["SumCharges", "costs_of_gradients"]


def costs_of_gradients(
    job: Job, front: Front, train: Split, promise: SplitPromise, name: Digest
) -> RunCosts:
    """Return the costs of a run that sums up moments of ``train``, then gradients.

    ``name``: digest that names what is made of everything.
    """
    samples = len(train)
    moments = moments_context(front.digest, train.fingerprint(), promise.moments).digest()
    costs = RunCosts.costs_of_job(job, front, promise.moments, {"train": samples}, {"train": name})
    # Rows are made of what the sums have paid for.
    made = replace(costs.labels, kind="training-release")
    names = [f"round {number} of {promise.rounds}" for number in range(1, promise.rounds + 1)]
    return replace(
        costs,
        rows={"train": made},
        moments=_event("moments", "moments", samples, moments.hex, promise.moments),
        rounds=tuple(
            _event("gradients", f"gradients, {one}", samples, one, promise.gradients)
            for one in names
        ),
    )


class SumCharges:
    """Enters moments and rounds into the ledger and stores it, before they are made.

    Parameters
    ----------
    costs
        From `costs_of_gradients`; the budget was checked for all of it.
    ledger, secrets
        The run's privacy ledger as it stands, and what stores it.
    """

    def __init__(self, costs: RunCosts, ledger: PrivacyLedger, secrets: OwnerSecrets) -> None:
        self._costs = costs
        self._ledger = ledger
        self._secrets = secrets

    def charge_moments(self) -> None:
        """Charge the moments, if they are not charged yet."""
        if self._costs.moments is not None and self._costs.moments not in self._ledger.entries:
            self._charge(self._costs.moments)

    def charge_round(self, number: int, release: Digest) -> None:
        """Charge round ``number``, from 1 on, of the context ``release``, if it is not yet.

        Raises
        ------
        ReleaseChangedError
            The round was charged with another context, so its noise may have been seen.
        """
        event = replace(self._costs.rounds[number - 1], release=release.hex)
        charged = [one for one in self._ledger.entries if one.kind == "gradients"]
        if number > len(charged):
            self._charge(event)
        elif charged[number - 1] != event:
            raise release_changed(event.split)

    def _charge(self, event: PrivacyEvent) -> None:
        # Raises before anything is stored: a refused sum leaves no trace.
        self._ledger.authorise_event(event)
        self._secrets.store_ledger(self._ledger)


def _event(
    kind: EventKind, what: str, samples: int, release: str, spec: ReleaseSpec
) -> PrivacyEvent:
    mechanism = f"{what}, rounded Gaussian, sigma {spec.sigma:.6g}"
    charge = Charge.gaussian(spec.mu)
    return PrivacyEvent(kind, "train", samples, release, mechanism, "sample", charge, charge)

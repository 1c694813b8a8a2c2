"""What a run will send and what that costs: events, budget, and the desk they pass."""

from __future__ import annotations

from collections.abc import Mapping

from clicooper_hpc.config.job import Job
from clicooper_hpc.digests import Digest
from clicooper_hpc.fronts.from_job import front_words
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.owner.release import ReleaseCost, ReleaseGate
from clicooper_hpc.owner.secrets import OwnerSecrets
from clicooper_hpc.owner.stream import ReleaseStream
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.ledger import Budget, Event, EventKind, Ledger
from clicooper_hpc.privacy.receipts import ReleaseChangedError
from clicooper_hpc.privacy.spec import ReleaseSpec

__all__ = ["ask_for_front", "set_up_desk"]

_UNPROTECTED = "labels under the secret map alone"


def ask_for_front(job: Job) -> None:
    """Refuse a DP-SGD front that the budget cannot pay before hours are spent on training it."""
    budget, target = job.privacy.budget_epsilon, job.front.dp_sgd
    if budget is None or job.front.kind != "dp-sgd":
        return
    price = Charge.approximate(target.epsilon, target.delta, "zero-out").under(job.privacy.relation)
    ledger = Ledger(
        Budget(budget, job.privacy.budget_delta or job.privacy.delta, relation=job.privacy.relation)
    )
    ledger.authorise(
        Event("front-training", "train", 1, "target", "DP-SGD", "sample", price, price)
    )


def set_up_desk(
    job: Job,
    front: Front,
    spec: ReleaseSpec | None,
    streams: Mapping[str, ReleaseStream],
    contexts: Mapping[str, Digest],
    secrets: OwnerSecrets,
) -> ReleaseGate:
    """Set up ledger and tariffs, and ask the budget for the whole run on a copy of the ledger."""
    budget = None
    if spec is not None and job.privacy.budget_epsilon is not None:
        budget = Budget(
            job.privacy.budget_epsilon,
            job.privacy.budget_delta or job.privacy.delta,
            unit="sample",
            relation=job.privacy.relation,
        )
    ledger = secrets.ledger(budget)
    unit = "sample" if spec is None else spec.guarantee.unit_label
    training = front_words(front).charge()
    if front.provenance.kind == "dp-sgd" and not ledger.entries:
        ledger.authorise(
            Event(
                "front-training",
                "train",
                len(streams["train"]),
                front.digest.hex,
                "DP-SGD",
                "sample",
                training,
                training,
            )
        )
    sums = _sums_event(front)
    if sums is not None and sums not in ledger.entries:
        ledger.authorise(sums)
    tariffs = {
        name: ReleaseCost(_release_event(name, spec, contexts[name], unit))
        for name in ("train", "validation")
        if name in streams
    }
    labels = _label_event(job, len(streams["train"]), contexts["train"], unit)
    rehearsal = Ledger.from_dict(ledger.to_dict())
    known = {(entry.split, entry.kind): entry.release for entry in ledger.entries}
    for event in (labels, *(tariff.of(len(streams[name])) for name, tariff in tariffs.items())):
        before = known.get((event.split, event.kind))
        if before is None:
            rehearsal.authorise(event)
        elif before != event.release:
            raise ReleaseChangedError(
                f"what left of split {event.split!r} was made of other data, another front or "
                "other settings",
                where="privacy ledger",
                remedy="Nothing was sent. Bring back what the run began with; a new run is a "
                "second release.",
            )
    # The delta at which the run's epsilon is stated: the budget's, or what its parts need.
    delta = job.privacy.budget_delta or min(
        1.0, job.privacy.delta + training.under(job.privacy.relation).delta
    )
    return ReleaseGate(
        ledger,
        streams,
        tariffs,
        labels=labels,
        spec=spec,
        delta=delta,
        relation=job.privacy.relation,
        secrets=secrets,
    )


def _release_event(name: str, spec: ReleaseSpec | None, context: Digest, unit: str) -> Event:
    kind: EventKind = "training-release" if name == "train" else "validation-release"
    charge = sample = Charge.unbounded()
    mechanism = "none: rows as they are"
    if spec is not None:
        charge, sample = spec.charge(), spec.sample_charge()
        mechanism = f"rounded Gaussian, sigma {spec.sigma:.6g}"
    return Event(kind, name, 1, context.hex, mechanism, unit, charge, sample)


def _sums_event(front: Front) -> Event | None:
    """Return what the samples behind a private projection pay, instead of a release."""
    spent = front.provenance.spent
    if spent is None:
        return None
    charge, mechanism = Charge.unbounded(), "none: class sums as they are"
    if spent.spec is not None:
        charge = spent.spec.charge()
        mechanism = f"class sums, rounded Gaussian, sigma {spent.spec.sigma:.6g}"
    return Event(
        "class-sums", "spent", spent.samples, front.digest.hex, mechanism, "sample", charge, charge
    )


def _label_event(job: Job, samples: int, context: Digest, unit: str) -> Event:
    epsilon = job.labels.randomized_response_epsilon
    charge = None if epsilon is None else Charge.pure(epsilon)
    mechanism = _UNPROTECTED if epsilon is None else f"randomised response, epsilon {epsilon:g}"
    return Event("labels", "train", samples, context.hex, mechanism, unit, charge, charge)

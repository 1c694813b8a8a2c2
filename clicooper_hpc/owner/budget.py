"""Privacy costs of a run, and the check that the budget covers them before anything leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clicooper_hpc.config.job import Job
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.digests import Digest
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.privacy_ledger import (
    EventKind,
    PrivacyBudget,
    PrivacyEvent,
    PrivacyLedger,
)
from clicooper_hpc.privacy.receipts import ReleaseChangedError
from clicooper_hpc.privacy.release_spec import ReleaseSpec
from clicooper_hpc.privacy.sensitivity import Relation

__all__ = [
    "RunCosts",
    "budget_for_run",
    "check_budget_for_front",
    "check_budget_for_run",
    "release_changed",
]

_UNPROTECTED = "labels under the secret map alone"


@dataclass(frozen=True, slots=True)
class RunCosts:
    """What a run costs its samples, and how the total is stated.

    Attributes
    ----------
    front
        What making the front cost: its training, or the class sums of a private projection.
    rows
        Release of all rows of a split, by split.
    labels
        Release of the sub-labels of all training samples.
    sigma
        Of the noise, in the units of the released rows; 0 with privacy off.
    moments, rounds
        With rounds of gradients: what is charged before any row is made of it. A round's event
        gets the name of its release, which depends on the rounds before, when it is made.
    delta, relation
        Total delta and neighbours at which the epsilon of the run is stated.
    """

    front: tuple[PrivacyEvent, ...]
    rows: Mapping[str, PrivacyEvent]
    labels: PrivacyEvent
    sigma: float
    delta: float
    relation: Relation
    moments: PrivacyEvent | None = None
    rounds: tuple[PrivacyEvent, ...] = ()

    @classmethod
    def costs_of_job(
        cls,
        job: Job,
        front: Front,
        spec: ReleaseSpec | None,
        samples: Mapping[str, int],
        contexts: Mapping[str, Digest],
    ) -> RunCosts:
        """Return the costs of the run of ``job``.

        Parameters
        ----------
        front, spec
            As built and solved; ``spec`` is None with privacy off.
        samples, contexts
            Number of samples, and digest that names the release, of each split that leaves.
        """
        # With privacy off nothing is promised for any unit, so costs are stated for samples.
        unit = "sample" if spec is None else spec.guarantee.unit_label
        training = front.origin.summarise_origin().charge()
        made = [_class_sums_event(front)]
        if front.origin.kind == "dp-sgd":
            made.insert(0, _dpsgd_event(front, samples["train"], training))
        # The delta at which the run's epsilon is stated: the budget's, or what its parts need.
        delta = job.privacy.budget_delta or min(
            1.0, job.privacy.delta + training.under(job.privacy.relation).delta
        )
        return cls(
            front=tuple(event for event in made if event is not None),
            rows={
                name: _rows_event(name, count, spec, contexts[name], unit, job.release.mode)
                for name, count in samples.items()
            },
            labels=_labels_event(job, samples["train"], contexts["train"], unit),
            sigma=0.0 if spec is None else spec.sigma,
            delta=delta,
            relation=job.privacy.relation,
        )


def check_budget_for_front(job: Job) -> None:
    """Refuse a DP-SGD front that the budget cannot pay before hours are spent on training it."""
    budget, target = job.privacy.budget_epsilon, job.front.dp_sgd
    if budget is None or job.front.kind != "dp-sgd":
        return
    price = Charge.approximate(target.epsilon, target.delta, "zero-out").under(job.privacy.relation)
    ledger = PrivacyLedger(_budget(job, budget))
    ledger.authorise_event(
        PrivacyEvent("front-training", "train", 1, "target", "DP-SGD", "sample", price, price)
    )


def budget_for_run(job: Job, spec: ReleaseSpec | None) -> PrivacyBudget | None:
    """Return the budget of the job; None without one, and with privacy off."""
    if spec is None or job.privacy.budget_epsilon is None:
        return None
    return _budget(job, job.privacy.budget_epsilon)


def check_budget_for_run(costs: RunCosts, ledger: PrivacyLedger) -> None:
    """Enter what the front cost, and ask a copy of the ledger for everything that will leave.

    Raises
    ------
    BudgetExceededError
        The run as a whole would spend more than the budget.
    ReleaseChangedError
        A split left before, in another release. Nothing was sent in either case.
    """
    for event in costs.front:
        # A front is paid for once; its training is always the first entry of a ledger.
        paid = bool(ledger.entries) if event.kind == "front-training" else event in ledger.entries
        if not paid:
            ledger.authorise_event(event)
    # On a copy: the entries of what leaves are made by the gate, when it leaves.
    rehearsal = PrivacyLedger.from_dict(ledger.to_dict())
    known = {(entry.split, entry.kind): entry.release for entry in ledger.entries}
    once = (costs.labels, *costs.rows.values())
    for event in once if costs.moments is None else (costs.moments, *once):
        before = known.get((event.split, event.kind))
        if before is None:
            rehearsal.authorise_event(event)
        elif before != event.release:
            raise release_changed(event.split)
    made = [entry for entry in ledger.entries if entry.kind == "gradients"]
    # Which model's they were is asked when they are made again, or taken up.
    terms = [replace(event, release="") for event in made]
    if terms != [replace(event, release="") for event in costs.rounds[: len(made)]]:
        raise release_changed("train")
    for event in costs.rounds[len(made) :]:
        rehearsal.authorise_event(event)


def release_changed(split: str) -> ReleaseChangedError:
    """Return the error that a split was released before, and as something else."""
    return ReleaseChangedError(
        f"what left of split {split!r} was made of other data, another front or other settings",
        where="privacy ledger",
        remedy="Nothing was sent. Bring back what the run began with; a new run is a second "
        "release.",
    )


def _budget(job: Job, epsilon: float) -> PrivacyBudget:
    return PrivacyBudget(
        epsilon,
        job.privacy.budget_delta or job.privacy.delta,
        unit="sample",
        relation=job.privacy.relation,
    )


def _dpsgd_event(front: Front, samples: int, charge: Charge) -> PrivacyEvent:
    return PrivacyEvent(
        "front-training", "train", samples, front.digest.hex, "DP-SGD", "sample", charge, charge
    )


def _class_sums_event(front: Front) -> PrivacyEvent | None:
    """Return what the samples behind a private projection pay, instead of a release."""
    cost = front.origin.class_sums
    if cost is None:
        return None
    charge, mechanism = Charge.unbounded(), "none: class sums as they are"
    if cost.spec is not None:
        charge = cost.spec.charge()
        mechanism = f"class sums, rounded Gaussian, sigma {cost.spec.sigma:.6g}"
    # A split of its own in the ledger: these samples are in no split that is released.
    return PrivacyEvent(
        "class-sums", "spent", cost.samples, front.digest.hex, mechanism, "sample", charge, charge
    )


def _rows_event(
    name: str,
    samples: int,
    spec: ReleaseSpec | None,
    context: Digest,
    unit: str,
    mode: ReleaseMode,
) -> PrivacyEvent:
    kind: EventKind = "training-release" if name == "train" else "validation-release"
    charge = sample = Charge.unbounded()
    what = "class sums" if mode == "sums" else mode
    mechanism = f"none: {what} as they are"
    if spec is not None:
        charge, sample = spec.charge(), spec.sample_charge()
        mechanism = f"{what}, rounded Gaussian, sigma {spec.sigma:.6g}"
    return PrivacyEvent(kind, name, samples, context.hex, mechanism, unit, charge, sample)


def _labels_event(job: Job, samples: int, context: Digest, unit: str) -> PrivacyEvent:
    if job.release.mode != "rows":
        # Of what the event of the rows has paid for.
        made = "made of the released sums"
        return PrivacyEvent("labels", "train", samples, context.hex, made, unit, Charge(), Charge())
    epsilon = job.labels.randomized_response_epsilon
    # No charge: a secret map is not differential privacy, and the card says so in words.
    charge = None if epsilon is None else Charge.pure(epsilon)
    mechanism = _UNPROTECTED if epsilon is None else f"randomised response, epsilon {epsilon:g}"
    return PrivacyEvent("labels", "train", samples, context.hex, mechanism, unit, charge, charge)

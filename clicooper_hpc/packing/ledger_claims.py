"""What a ledger says of the training, each statement with the entries it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from clicooper_hpc.provenance.statements import (
    DeliveryStatement,
    Enrolment,
    RunStatement,
    StageProof,
    Ticket,
    statement_environment_digest,
)
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.verification.ledger_view import LedgerView

__all__ = ["LedgerClaim", "delivered_results", "ledger_claims", "privacy_line", "versions_used"]

#: Line of a privacy card that states the promise.
_GUARANTEE: Final = "guarantee"
#: What of an environment names a package, and how the package is called.
_PACKAGES: Final = {
    "cryptography-version": "cryptography",
    "h5py-version": "h5py",
    "mpi4py-version": "mpi4py",
    "numpy-version": "numpy",
    "opacus-version": "opacus",
    "torch": "torch",
}
#: What of an environment says where, not with what, a segment was trained.
_PLACES: Final = frozenset({"host"})


@dataclass(frozen=True, slots=True)
class LedgerClaim:
    """``value`` is what the ledger entries with the indices ``entries`` say under ``name``."""

    name: str
    value: str
    entries: tuple[int, ...]


def ledger_claims(view: LedgerView, card: str) -> tuple[LedgerClaim, ...]:
    """Return everything that a pack claims of the training of a finished run.

    Parameters
    ----------
    view
        The ledger, once its checks have passed.
    card
        The privacy card as printed before the first release; the first entry names its digest.
    """
    return (*_training_claims(view, card), *_environment_claims(view), *_result_claims(view))


def privacy_line(card: str) -> str:
    """Return what a privacy card promises, in one line."""
    rows = [line.split(None, 1) for line in card.splitlines() if line.strip()]
    for row in rows:
        if row[0] == _GUARANTEE and len(row) == 2:
            return row[1].strip()
    # Of a run without noise: its first line says that nothing is promised.
    return " ".join(rows[0]) if rows else "none"


def versions_used(view: LedgerView) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return (package, version) to the enrolments that name it."""
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for _, entry, enrolment in view.all_of(Enrolment):
        for field, package in _PACKAGES.items():
            version = enrolment.environment.get(field)
            if version:
                key = package, version
                found[key] = (*found.get(key, ()), entry.index)
    return dict(sorted(found.items()))


def delivered_results(view: LedgerView) -> dict[str, str]:
    """Return the accuracies that the owner signed with the delivery, by their words."""
    for _, _, delivery in view.all_of(DeliveryStatement):
        return {
            words: delivery.results[name]
            for name, (_, words) in RESULT_FIGURES.items()
            if name in delivery.results and name.endswith("_accuracy")
        }
    return {}


def _training_claims(view: LedgerView, card: str) -> Iterator[LedgerClaim]:
    run = view.run
    first = tuple(entry.index for _, entry, _ in view.all_of(RunStatement))
    tickets = [
        (entry.index, ticket)
        for _, entry, ticket in view.all_of(Ticket)
        # Every segment has its ticket of the same samples; the first one sees what was released.
        if ticket.segment == 1
    ]
    samples = sum(ticket.samples for _, ticket in tickets)
    proofs = {entry.index: proof for _, entry, proof in view.all_of(StageProof)}
    enrolled = tuple(entry.index for _, entry, _ in view.all_of(Enrolment))
    yield LedgerClaim("rows", f"{samples} samples trained on, averaged ones one by one, "
        "one that comes again counted again", tuple(index for index, _ in tickets))  # fmt: skip
    yield LedgerClaim("epsilon", privacy_line(card), first)
    yield LedgerClaim(
        "steps", f"{run.total_steps} in {run.stages} stages, all segments", (*first, *proofs)
    )
    yield LedgerClaim(
        "trainers", f"{run.segments}, one a segment, each with a key of its own",
        (*first, *enrolled),
    )  # fmt: skip


def _environment_claims(view: LedgerView) -> Iterator[LedgerClaim]:
    for _, entry, enrolment in view.all_of(Enrolment):
        digest = statement_environment_digest(enrolment.environment).hex
        mine = [
            (proof_entry.index, proof.environment == digest)
            for _, proof_entry, proof in view.all_of(StageProof)
            if proof.segment == enrolment.segment
        ]
        elsewhere = sum(not same for _, same in mine)
        parts = [
            f"{name} {value}"
            for name, value in sorted(enrolment.environment.items())
            if name not in _PLACES
        ]
        yield LedgerClaim(
            f"environment of segment {enrolment.segment}",
            f"{'; '.join(parts)}; stages in another one: {elsewhere} of {len(mine)}",
            (entry.index, *(index for index, _ in mine)),
        )


def _result_claims(view: LedgerView) -> Iterator[LedgerClaim]:
    for _, entry, delivery in view.all_of(DeliveryStatement):
        for words, value in delivered_results(view).items():
            yield LedgerClaim(f"result: {words}", value, (entry.index,))
        for one in delivery.segments:
            yield LedgerClaim(
                f"weights of segment {one.segment}", f"tensor digest {one.weights}", (entry.index,)
            )

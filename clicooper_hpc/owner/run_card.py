"""The privacy card of a run, from what the owner set up and measured."""

from __future__ import annotations

from typing import Any

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.evaluation import Score
from clicooper_hpc.owner.release_setup import ReleaseSetup
from clicooper_hpc.privacy.accounting import cross_check_accounting
from clicooper_hpc.privacy.moments_summary import MomentsSummary
from clicooper_hpc.privacy.privacy_card import (
    LabelSummary,
    MeasuredFigures,
    PrivacyCard,
)

__all__ = ["flatten_run_card", "make_run_card", "summarise_moments"]


def make_run_card(
    job: Job,
    setup: ReleaseSetup,
    *,
    clean: Score | None = None,
    released: Score | None = None,
) -> PrivacyCard:
    """Return the card; with scores, what was measured stands on it too."""
    spec = setup.spec
    return PrivacyCard(
        spec=spec,
        check=None if spec is None else cross_check_accounting(1.0 / spec.mu, spec.guarantee.delta),
        front=setup.front.origin.summarise_origin(),
        labels=LabelSummary(
            classes=setup.label_map.num_classes,
            method=job.labels.method,
            expansion=job.labels.expansion,
            response_epsilon=job.labels.randomized_response_epsilon,
        ),
        rng_mode=setup.mode,
        measured=MeasuredFigures(
            accuracy_clean=_known(clean),
            accuracy_released=_known(released),
        ),
        moments=None
        if job.release.mode == "rows"
        else summarise_moments(job, len(setup.samples.splits["train"]), setup.contract.samples),
    )


def summarise_moments(job: Job, samples: int, rows: int) -> MomentsSummary:
    """Return what is said of a release of sums over ``samples`` samples as ``rows`` public rows."""
    release = job.release
    gradients = release.mode == "gradients"
    return MomentsSummary(
        samples,
        rows,
        sums_alone=release.mode == "sums",
        rounds=release.rounds if gradients else 0,
        gradient_share=release.gradient_share if gradients else 0.0,
    )


def flatten_run_card(card: PrivacyCard) -> dict[str, Any]:
    """Return the card's plain entries for HDF5 attributes, nested names joined by dots."""
    return dict(_flat("", {k: v for k, v in card.to_dict().items() if k != "lines"}))


def _known(score: Score | None) -> float | None:
    return score.accuracy if score is not None and score.samples else None


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        # HDF5 attributes hold plain values only, so a nested name becomes a dotted one.
        if isinstance(value, dict):
            found += _flat(f"{prefix}{key}.", value)
        elif value is not None:
            found.append((f"{prefix}{key}", value))
    return found

"""What the owner reads before anything leaves: the promise, and what is cut of its values."""

from __future__ import annotations

import logging

from clicooper_hpc.config.job import Job
from clicooper_hpc.owner.release_setup import ReleaseSetup
from clicooper_hpc.owner.run_card import make_run_card
from clicooper_hpc.owner.value_check import check_values
from clicooper_hpc.privacy.master_key import SECURE
from clicooper_hpc.privacy.privacy_card import PrivacyCard

__all__ = ["announce_owner_promise", "progress_note"]

_log = logging.getLogger(__name__)


def announce_owner_promise(job: Job, setup: ReleaseSetup) -> None:
    """Log the privacy card line by line, then what front and clip cut of the training samples."""
    for line in make_run_card(job, setup).lines():
        _log.info("%s", line)
    for remark in check_values(job, setup.data, setup.samples.splits["train"], setup.front):
        # With --quiet too: what is cut is lost, and a released row cannot be taken back.
        _log.log(logging.WARNING if remark.cut else logging.INFO, "%s", remark.text)


def progress_note(card: PrivacyCard) -> str:
    """Return the run's epsilon in a few words, with the unit that counts in the end."""
    if card.spec is None:
        return "NO PRIVACY"
    guarantee = card.spec.guarantee
    other, less, _ = card.other_total()
    text = (
        f"epsilon {card.sample_total()[0]:.4g} per sample ({guarantee.relation}; "
        f"{other} {less:.4g})"
    )
    if guarantee.unit != "sample":
        text = f"epsilon {guarantee.epsilon:g} per {guarantee.unit_label}, {text}"
    return text if card.rng_mode == SECURE else f"{text}, {card.rng_mode}"

"""The section of the owner's promise: what the release hides, and how much may be spent.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from clicooper_hpc.config.section import Section

__all__ = ["PrivacySection"]


class PrivacySection(Section):
    """What the release hides, and how much of it may be spent."""

    enabled: bool = True
    """`false` sends the front's rows as they are: no clip, no noise, no guarantee."""

    unit: Literal["sample", "element", "metric"] = "sample"
    """What epsilon protects. `sample`: one whole row (local DP). `element`: one coordinate of a
    row (weak; always printed with its sample-level epsilon). `metric`: rows closer than
    `metric_distance` (never plain DP)."""

    relation: Literal["replace-one", "zero-out"] = "replace-one"
    """Neighbouring inputs: a row against any other row, or a row against the zero row."""

    epsilon: float = Field(default=8.0, gt=0)
    """Epsilon of one release, in the unit above."""

    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Delta of one release. Less than one over the number of samples, see `allow_large_delta`."""

    allow_large_delta: bool = False
    """Take deltas, here and in `front.dp_sgd`, of one over the number of samples or more. A promise
    with such a delta is kept by publishing one sample as it is."""

    clip: float = Field(default=1.0, gt=0)
    """L2 norm C rows are clipped to (units sample, metric) or the bound c of each coordinate
    (unit element)."""

    metric_distance: float | None = Field(default=None, gt=0)
    """Distance D0 between clipped rows up to which epsilon holds (unit metric)."""

    budget_epsilon: float | None = Field(default=None, gt=0)
    """Stop, exit code 3, before any send that would take a whole sample's total above this,
    whatever the unit of the release (neighbours as in `relation`)."""

    budget_delta: float | None = Field(default=None, gt=0, lt=1)
    """As `budget_epsilon`, for delta."""

    account: Path | None = None
    """File of what these samples have cost in all runs together, relative to the job file; made by
    the first run that names it. A run reserves its whole cost in it before anything leaves, and
    stops there, exit code 3, if a sample would have paid more than `account_epsilon` in all."""

    account_epsilon: float | None = Field(default=None, gt=0)
    """The most a whole sample may pay in all runs of `account` (neighbours as in `relation`)."""

    account_delta: float | None = Field(default=None, gt=0, lt=1)
    """The delta of all these runs together, at which their epsilon is stated."""

    mode: Literal["secure", "reproducible-INSECURE"] = "secure"
    """Noise key from the operating system, or derived from `seed`: the second is for tests, gives
    no privacy, and brands every output."""

    seed: int = Field(default=0, ge=0, lt=2**62)
    """Seed of mode `reproducible-INSECURE`."""

    @model_validator(mode="after")
    def _consistent(self) -> PrivacySection:
        if self.unit == "metric" and self.metric_distance is None:
            raise ValueError('privacy.unit = "metric" needs privacy.metric_distance')
        if self.unit == "metric" and self.relation == "zero-out":
            raise ValueError(
                'privacy.unit = "metric" compares rows: relation must be "replace-one"'
            )
        # Epsilon without delta, or the reverse, bounds nothing.
        if (self.budget_epsilon is None) != (self.budget_delta is None):
            raise ValueError("privacy.budget_epsilon and privacy.budget_delta go together")
        # A budget beside no privacy would look as if it held something.
        if not self.enabled and self.budget_epsilon is not None:
            raise ValueError("privacy.enabled = false spends without limit: take the budget out")
        self._check_account()
        return self

    def _check_account(self) -> None:
        keys = (self.account, self.account_epsilon, self.account_delta)
        if all(key is None for key in keys):
            return
        if any(key is None for key in keys):
            raise ValueError(
                "privacy.account, privacy.account_epsilon and privacy.account_delta go together"
            )
        # Either leaves no guarantee, so no account of these samples could hold afterwards.
        if not self.enabled:
            raise ValueError("privacy.enabled = false costs without limit: take the account out")
        if self.mode != "secure":
            raise ValueError(f'privacy.mode = "{self.mode}" gives no privacy: take the account out')

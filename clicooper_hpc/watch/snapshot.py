"""`RunSnapshot`: what the files of a run say at one moment, as plain values.

Numbers may be a stranger's: what is no possible value is left out (None), never shown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = [
    "LedgerEvent",
    "PrivacySpent",
    "RankActivity",
    "RunSnapshot",
    "ledger_events",
    "privacy_spent",
    "rank_activity",
    "stated_total_steps",
]

Columns = Mapping[str, Any]

#: Averages are over so many steps at the end.
RECENT_STEPS: Final = 50
_LAST_EVENTS: Final = 4
#: No run is longer; keeps all arithmetic finite.
_MOST: Final = 1e15


@dataclass(frozen=True, slots=True)
class RankActivity:
    """One rank: steps recorded, and what its last steps were spent on.

    Attributes
    ----------
    rank, host
        Which, and where it started.
    steps, epoch
        Steps recorded, and the epoch of the last one (from 0).
    busy, waiting
        Shares of the time of the last steps, in [0, 1]; None where there is none.
    step_s, samples
        Mean seconds and samples of the last steps.
    loss, first_loss, accuracy
        Of a trainer that computes a loss: of the last steps, of the first, accuracy on sub-labels.
    fault
        Why its file cannot be read; the rest is empty then.
    epoch_steps
        Steps of an epoch, once the first has ended.
    """

    rank: int
    host: str
    steps: int = 0
    epoch: int | None = None
    busy: float | None = None
    waiting: float | None = None
    step_s: float | None = None
    samples: float | None = None
    loss: float | None = None
    first_loss: float | None = None
    accuracy: float | None = None
    fault: str = ""
    epoch_steps: int | None = None


@dataclass(frozen=True, slots=True)
class PrivacySpent:
    """What has been charged so far: epsilon and delta of a sample, samples released at all."""

    epsilon: float
    delta: float
    samples: int


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One entry of the ledger: its number and what it is, in words."""

    entry: int
    words: str


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """A run as its files say it is.

    Attributes
    ----------
    status
        ``"complete"``, ``"incomplete"``, or ``"starting"`` before there is an index.
    saved_step
        After how many steps all ranks have saved and ended; None if they have not.
    created, restarts
        When it began, how often it was started again.
    total_steps, epochs
        Length of the run, as far as it is known.
    ranks
        All ranks, owner first.
    clean_accuracy, evaluated_epoch
        Of the newest evaluation of the delivered model.
    promised
        Epsilon of a sample as promised, None without privacy or where it is not said.
    private
        False if the run has no privacy, None where nothing says so.
    spent
        What has been charged; None before the first release.
    entries, events
        Entries of the ledger, and the last of them.
    changed
        When a file of the run changed last, as seconds of the system's clock.
    """

    status: str
    changed: float
    saved_step: int | None = None
    created: str = ""
    restarts: int = 0
    total_steps: int | None = None
    epochs: int | None = None
    ranks: tuple[RankActivity, ...] = ()
    clean_accuracy: float | None = None
    evaluated_epoch: int | None = None
    promised: float | None = None
    private: bool | None = None
    spent: PrivacySpent | None = None
    entries: int = 0
    events: tuple[LedgerEvent, ...] = ()

    @property
    def done_steps(self) -> int:
        """Steps that all ranks whose files can be read have recorded."""
        return min((one.steps for one in self.ranks if not one.fault), default=0)

    @property
    def trained(self) -> RankActivity | None:
        """The last trainer that tells a loss."""
        return next((one for one in reversed(self.ranks) if one.loss is not None), None)


def rank_activity(rank: int, host: str, steps: Columns, training: Columns | None) -> RankActivity:
    """Return what the tables ``steps`` and ``training`` (None: not there) of a rank say."""
    count = len(steps["step"])
    recent = {name: np.asarray(steps[name][-RECENT_STEPS:], np.float64) for name in _TIMES}
    seconds = _sum(recent["step_s"])
    epoch, epoch_steps = None, None
    if count:
        epochs = np.asarray(steps["epoch"], np.int64)
        epoch = _whole(epochs[-1])
        # The first step of the second epoch: steps are those of training alone, in order.
        later = np.flatnonzero(epochs == 1)
        epoch_steps = _whole(steps["step"][later[0]]) if later.size else None
    losses = np.empty(0) if training is None else np.asarray(training["loss"], np.float64)
    known = losses[np.isfinite(losses)]
    accuracy = None
    if training is not None and known.size:
        accuracy = _share(_mean(np.asarray(training["sub_label_accuracy"][-RECENT_STEPS:])))
    return RankActivity(
        rank,
        host,
        steps=count,
        epoch=epoch,
        busy=_share(_sum(recent["compute_s"]) / seconds) if seconds else None,
        waiting=(
            _share((_sum(recent["wait_recv_s"]) + _sum(recent["wait_send_s"])) / seconds)
            if seconds
            else None
        ),
        step_s=_mean(recent["step_s"]),
        samples=_mean(recent["rows"]),
        loss=_mean(known[-RECENT_STEPS:], signed=True),
        first_loss=_mean(known[:1], signed=True),
        accuracy=accuracy,
        epoch_steps=epoch_steps,
    )


_TIMES: Final = ("step_s", "compute_s", "wait_recv_s", "wait_send_s", "rows")


def privacy_spent(releases: Columns) -> PrivacySpent | None:
    """Return what the last row of the table ``releases`` says; None if there is none."""
    if not len(releases["step"]):
        return None
    epsilon, delta = float(releases["epsilon_sample"][-1]), float(releases["delta"][-1])
    # Of each split apart; a sample is in one of them.
    splits = np.asarray(releases["split"], np.int64)
    totals = np.asarray(releases["samples_total"], np.int64)
    samples = sum(int(totals[splits == one][-1]) for one in np.unique(splits)[:3])
    return PrivacySpent(epsilon, delta, samples)


def ledger_events(ledger: Columns) -> tuple[LedgerEvent, ...]:
    """Return the last entries of the table ``ledger``, oldest first."""
    last = range(max(0, len(ledger["entry"]) - _LAST_EVENTS), len(ledger["entry"]))
    return tuple(
        LedgerEvent(
            int(ledger["entry"][row]),
            _event_words(
                bytes(ledger["kind"][row]).decode("utf-8", "replace"),
                int(ledger["segment"][row]),
                int(ledger["stage"][row]),
            ),
        )
        for row in last
    )


def _event_words(kind: str, segment: int, stage: int) -> str:
    words = {"stage": "proof", "handoff": "hand-off"}.get(kind, kind)
    if stage >= 0:
        words += f" of stage {stage}"
    if segment >= 0:
        words += f", {'rank' if kind == 'handoff' else 'segment'} {segment}"
    return words


def stated_total_steps(ledger: Columns) -> int | None:
    """Return how many steps the run has by its own first statement, None if it does not say.

    Nothing is verified here: `clicooper verify` does that.
    """
    if not len(ledger["entry"]):
        return None
    try:
        envelope = json.loads(bytes(ledger["envelope"][0]))
        statement = json.loads(base64.b64decode(envelope["payload"]))
        steps = statement["predicate"]["total_steps"]
    # Whatever a stranger wrote there; too deeply nested is a RecursionError.
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return steps if type(steps) is int and 0 < steps < _MOST else None


def _whole(value: Any) -> int | None:
    number = int(value)
    return number if 0 <= number < _MOST else None


def _possible(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values[(values >= 0) & (values < _MOST)]


def _sum(values: np.ndarray[Any, Any]) -> float:
    return float(_possible(values).sum())


def _mean(values: Sequence[Any] | np.ndarray[Any, Any], *, signed: bool = False) -> float | None:
    numbers = np.asarray(values, np.float64)
    good = numbers[np.abs(numbers) < _MOST] if signed else _possible(numbers)
    return float(good.mean()) if good.size else None


def _share(value: float | None) -> float | None:
    # A little above 1 is the clock's.
    return None if value is None else min(max(value, 0.0), 1.0)

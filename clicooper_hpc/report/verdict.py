"""What a run reached and how it ended, in sentences; the levels its accuracy is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clicooper_hpc.owner.accuracy_interval import accuracy_interval
from clicooper_hpc.report.numbers import (
    finite_number,
    number_text,
    percent_text,
    result_number,
    result_text,
)
from clicooper_hpc.report.run_reading import RunReading
from clicooper_hpc.runstore.result_figures import RESULT_FIGURES
from clicooper_hpc.runstore.saved_marker import read_saved_step

__all__ = ["RunVerdict", "read_verdict"]

#: Accuracies that are no baseline: what the run itself reached.
_REACHED = frozenset({"clean_accuracy", "released_accuracy"})
_CHANCE, _MAJORITY = "guessing", "largest class"
_SHORT = {
    "front_accuracy": "front alone",
    "network_accuracy": "trainers' network alone",
    "class_sums_accuracy": "class sums alone",
    "moments_accuracy": "moments alone",
    "gradients_accuracy": "gradient rounds alone",
}
#: Samples above which an interval is not computed; a stranger's number may be any.
_MOST_SAMPLES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What a run reached.

    Attributes
    ----------
    headline
        Accuracy beside chance, or that there is none.
    ending
        How the run ended.
    levels
        Name and share in [0, 1] of what accuracy is compared with: chance, parts alone.
    results
        Name, value and meaning of every result.
    accuracy
        On clean held-out samples; None if none was measured.
    """

    headline: str
    ending: str
    levels: Sequence[tuple[str, float]]
    results: Sequence[tuple[str, str, str]]
    accuracy: float | None


def read_verdict(reading: RunReading, majority_share: float | None = None) -> RunVerdict:
    """Return the verdict on ``reading``'s run.

    ``majority_share``: of the largest class among the test samples, where the page may show it.
    """
    run, line = reading.run, reading.public.line
    classes = finite_number(run.privacy.get("labels.classes"))
    levels = [] if classes is None or classes < 1 else [(_CHANCE, 1 / classes)]
    if majority_share is not None:
        levels.append((_MAJORITY, majority_share))
    for name, value in run.results.items():
        share = finite_number(value)
        if name.endswith("_accuracy") and name not in _REACHED and share is not None:
            levels.append((_SHORT.get(name, line(name.removesuffix("_accuracy"))), share))
    accuracy = finite_number(run.results.get("clean_accuracy"))
    samples = finite_number(run.results.get("clean_samples"))
    return RunVerdict(
        headline=_headline(reading, accuracy, samples, levels),
        ending=_ending(reading),
        levels=levels,
        results=[
            (line(name), _with_units(name, value, line(run.result_units[name])), _meaning(name))
            for name, value in run.results.items()
        ],
        accuracy=result_number("clean_accuracy", accuracy),
    )


def _headline(
    reading: RunReading,
    accuracy: float | None,
    samples: float | None,
    levels: Sequence[tuple[str, float]],
) -> str:
    when = "The delivered network"
    if accuracy is None:
        table = reading.table("evaluation", 0)
        last = None if table is None or table.empty else table.iloc[-1]
        accuracy = None if last is None else finite_number(last["clean_accuracy"])
        if last is None or accuracy is None:
            return "No accuracy was measured yet."
        samples, when = (
            finite_number(last["samples"]),
            f"After {int(last['step'])} steps the network",
        )
    many = "" if samples is None else f"{result_text('clean_samples', samples)} "
    text = (
        f"{when} names {result_text('clean_accuracy', accuracy)} of {many}held-out samples rightly"
    )
    chance, majority = (dict(levels).get(name) for name in (_CHANCE, _MAJORITY))
    low, high = _interval(accuracy, samples)
    if low is not None:
        text += f" (95 % interval {percent_text(low)} to {percent_text(high)})"
    if chance is not None:
        better = low is not None and low > chance
        worse = "" if better or low is None else ": no better than guessing"
        text += f"; guessing among {number_text(1 / chance)} classes gives {percent_text(chance)}"
        text += worse
    if majority is not None:
        better = low is not None and low > majority
        worse = "" if better or low is None else ": no better than that"
        text += f"; always answering the largest class gives {percent_text(majority)}{worse}"
    others = [
        f"{name.removesuffix(' alone')} {result_text('_accuracy', share)}"
        for name, share in levels
        if name not in (_CHANCE, _MAJORITY)
    ]
    if others:
        text += f". Single parts alone reach: {', '.join(others)}"
    if majority is None:
        text += (
            ". How large the largest class is, the owner alone knows (--classes): where classes "
            "are uneven, that is to be compared with as well"
        )
    return f"{text}."


def _interval(accuracy: float, samples: float | None) -> tuple[float | None, float | None]:
    """Return the ends of Wilson's 95 % interval; None where numbers are none of an accuracy."""
    share, count = (
        result_number("clean_accuracy", accuracy),
        result_number("clean_samples", samples),
    )
    if share is None or count is None or count > _MOST_SAMPLES:
        return None, None
    return accuracy_interval(share, count)


def _ending(reading: RunReading) -> str:
    run = reading.run
    restarts = finite_number(run.attrs.get("restarts")) or 0
    again = f" It was started again {restarts:.0f} times." if restarts else ""
    if run.status == "complete":
        return f"The run finished.{again}"
    step = reading.attempt(
        "file SAVED", lambda: read_saved_step(run.folder, str(run.attrs["run_id"]))
    )
    if step is not None:
        return f"INCOMPLETE: all ranks saved after {step} steps, to be started again.{again}"
    reached = []
    for rank in run.ranks:
        steps = reading.table("steps", rank)
        if steps is not None:
            reached.append(f"rank {rank} after {len(steps)} steps")
    return (
        "INCOMPLETE: it is still running, was stopped or crashed; recorded are "
        f"{', '.join(reached[:8]) or 'no steps'}"
        f"{f' and {len(reached) - 8} ranks more' if len(reached) > 8 else ''}.{again}"
    )


def _with_units(name: str, value: object, units: str) -> str:
    text = result_text(name, value)
    return text if units in {"1", "text"} or name.endswith("_accuracy") else f"{text} {units}"


def _meaning(name: str) -> str:
    return RESULT_FIGURES[name][1] if name in RESULT_FIGURES else "not known to this version"

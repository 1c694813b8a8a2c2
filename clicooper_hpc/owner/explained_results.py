"""What the results of a run mean, in a few sentences: facts in, sentences out.

Shares of single classes are in none of them: they go into logs, and these may be read by others
than the owner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clicooper_hpc.owner.accuracy_interval import accuracies_differ, accuracy_interval

__all__ = ["ResultFacts", "ResultRemark", "compare_accuracies", "explain_results"]

_WITHOUT_NOISE = "--set privacy.enabled=false"
_WITHOUT_MEANS = "--set training.average_rows=1"


@dataclass(frozen=True, slots=True)
class ResultFacts:
    """What sentences about a run are made from.

    Attributes
    ----------
    results
        Figures the run ended with (`RESULT_FIGURES`).
    classes
        Number of classes.
    majority_share
        Accuracy of always answering the largest class of the test samples; None if not known.
    private, mode, average_rows
        ``privacy.enabled``, ``release.mode`` and ``training.average_rows`` of the job.
    cross_check
        Epsilon by the second accountant; None without noise.
    """

    results: Mapping[str, float]
    classes: int
    majority_share: float | None
    private: bool
    mode: str
    average_rows: int
    cross_check: float | None


@dataclass(frozen=True, slots=True)
class ResultRemark:
    """One sentence or two; a warning where the run failed at what it was made for."""

    text: str
    is_warning: bool = False


def explain_results(facts: ResultFacts) -> list[ResultRemark]:
    """Return the remarks on a run, the verdict on its accuracy first."""
    return [
        _verdict(facts),
        *(ResultRemark(text) for text in (*_noise(facts), *_released(facts), *_checks(facts))),
    ]


def _verdict(facts: ResultFacts) -> ResultRemark:
    accuracy, samples = (facts.results[f"clean_{name}"] for name in ("accuracy", "samples"))
    if not samples:
        return ResultRemark("No test sample: nothing shows how good the model is", is_warning=True)
    low, high = accuracy_interval(accuracy, samples)
    reached = (
        f"On {samples:.0f} clean test samples the delivered model is right for "
        f"{_percent(accuracy)} (95 % interval {_percent(low)} to {_percent(high)})"
    )
    chance = 1 / facts.classes
    guessing = f"guessing among {facts.classes} classes ({_percent(chance)})"
    if low <= chance:
        compared = "worse than" if high < chance else "no better than"
        return ResultRemark(f"{reached}: {compared} {guessing}", is_warning=True)
    if facts.majority_share is None:
        return ResultRemark(f"{reached}: better than {guessing}")
    always = "always answering the largest class"
    if low <= facts.majority_share:
        return ResultRemark(
            f"{reached}: better than {guessing}, but no better than {always}", is_warning=True
        )
    return ResultRemark(f"{reached}: better than {guessing} and than {always}")


def _noise(facts: ResultFacts) -> Iterator[str]:
    means = facts.average_rows
    if facts.mode != "rows":
        noised = "noised" if facts.private else "exact"
        yield (
            f"Trainers learnt from public rows made to have the {noised} sums over all samples"
            f"{_beside_sums(facts)}"
        )
    elif means > 1 and facts.private:
        yield (
            f"Trainers learnt from means of {means} rows, in which most noise cancels and samples "
            f"blur: a run without noise ({_WITHOUT_NOISE}) blurs them as well and need not be "
            f"better. What both cost: add {_WITHOUT_MEANS}"
        )
    elif means > 1:
        yield (
            f"There was no noise, but trainers learnt from means of {means} rows, which blur "
            f"samples: a run with noise may come as far. Without that: {_WITHOUT_MEANS}"
        )
    elif facts.private:
        yield f"Every row carried its noise once. What that costs: run it with {_WITHOUT_NOISE}"
    else:
        yield "NO PRIVACY: rows left without noise; this is what the same network reaches so"


def _beside_sums(facts: ResultFacts) -> str:
    """Return how the delivered model compares with the owner's best model of the sums alone."""
    known = [
        name for name in ("gradients", "moments", "class_sums") if _part(name) in facts.results
    ]
    if not known or not facts.results["clean_samples"]:
        return ""
    alone = facts.results[_part(known[0])]
    accuracy, samples = facts.results["clean_accuracy"], facts.results["clean_samples"]
    if not accuracies_differ((accuracy, samples), (alone, samples)):
        compared = "about as good as"
    else:
        compared = "better than" if accuracy > alone else "worse than"
    return (
        f". Their network is {compared} what these give the owner without them ({_percent(alone)})"
    )


def _part(name: str) -> str:
    return f"{name}_accuracy"


def _released(facts: ResultFacts) -> Iterator[str]:
    released, rows = (facts.results.get(f"released_{name}") for name in ("accuracy", "samples"))
    if released is None or not rows:
        return
    text = f"On {rows:.0f} released rows the trainers' answers are right for {_percent(released)}"
    if facts.private:
        text += (
            ": each of these has all its noise and no mean takes it away. The model is for clean "
            "rows, which do not leave the owner"
        )
    yield text


def _checks(facts: ResultFacts) -> Iterator[str]:
    if facts.cross_check is not None:
        yield (
            f"The cross-check on the card (epsilon at most {facts.cross_check:.4g}) is a second, "
            "looser bound for the same noise, and no further cost"
        )


def compare_accuracies(
    name: str, mine: Mapping[str, float], other: str, theirs: Mapping[str, float]
) -> str:
    """Return whether the run ``name`` is better than the run ``other`` on clean test samples.

    ``mine`` and ``theirs`` are their results, each with an accuracy and samples > 0.
    """
    ours, others = ((one["clean_accuracy"], one["clean_samples"]) for one in (mine, theirs))
    apart = 100 * abs(ours[0] - others[0])
    if not accuracies_differ(ours, others):
        fewest = min(ours[1], others[1])
        return (
            f"{other} and {name}: {apart:.1f} points apart, which {fewest:.0f} test samples do not "
            "tell from chance"
        )
    better = "better" if others[0] > ours[0] else "worse"
    return f"{other} is {better} than {name} by {apart:.1f} points, more than chance would do"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"

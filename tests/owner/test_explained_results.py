"""Sentences at the end of a run: what they say of each kind of run, and when they warn."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy.stats import binomtest

from clicooper_hpc.owner.accuracy_interval import accuracies_differ, accuracy_interval
from clicooper_hpc.owner.explained_results import (
    ResultFacts,
    compare_accuracies,
    explain_results,
)

#: A private run of rows whose means are trained on, ten classes, the largest of 12 %.
GOOD = ResultFacts(
    {
        "clean_accuracy": 0.86,
        "clean_samples": 400,
        "released_accuracy": 0.2,
        "released_samples": 100,
    },
    classes=10,
    majority_share=0.12,
    private=True,
    mode="rows",
    average_rows=16,
    cross_check=8.5994,
)


def with_accuracy(accuracy: float, samples: int = 400, **others: float) -> ResultFacts:
    return replace(GOOD, results={"clean_accuracy": accuracy, "clean_samples": samples, **others})


@pytest.mark.parametrize(
    ("facts", "words", "warns"),
    [
        (GOOD, "better than guessing among 10 classes (10.0 %) and than always", False),
        (with_accuracy(0.11), ": no better than guessing among 10 classes (10.0 %)", True),
        (with_accuracy(0.02), ": worse than guessing among 10 classes (10.0 %)", True),
        # Above chance, but of the samples 60 % are of one class.
        (
            replace(with_accuracy(0.61), majority_share=0.6),
            "better than guessing among 10 classes (10.0 %), but no better than always answering "
            "the largest class",
            True,
        ),
        (replace(with_accuracy(0.5), majority_share=0.6), "but no better than always", True),
        (replace(with_accuracy(0.7), majority_share=0.6), "and than always answering", False),
        # Ten samples do not tell 20 % from 10 %.
        (with_accuracy(0.2, samples=10), ": no better than guessing", True),
        (replace(GOOD, majority_share=None), ": better than guessing among 10", False),
        (with_accuracy(float("nan"), samples=0), "No test sample", True),
    ],
)
def test_the_verdict_holds_accuracy_against_chance_and_the_largest_class(
    facts: ResultFacts, words: str, warns: bool
) -> None:
    verdict = explain_results(facts)[0]
    assert words in verdict.text
    assert verdict.is_warning == warns
    # Neither the share of a class nor its name: others read logs.
    assert not any(share in verdict.text for share in ("12.0 %", "60.0 %"))


def rest(facts: ResultFacts) -> str:
    remarks = explain_results(facts)
    assert len(remarks) <= 4
    assert not any(one.is_warning for one in remarks[1:])
    return "\n".join(one.text for one in remarks[1:])


def test_what_noise_costs_is_told_with_the_run_that_shows_it() -> None:
    text = rest(GOOD)
    assert "means of 16 rows, in which most noise cancels and samples blur" in text
    assert "need not be better" in text
    assert "On 100 released rows the trainers' answers are right for 20.0 %: each" in text
    assert "cross-check on the card (epsilon at most 8.599)" in text
    single = rest(replace(GOOD, average_rows=1))
    assert "Every row carried its noise once" in single
    assert "means of" not in single
    off = replace(GOOD, private=False, cross_check=None)
    assert "There was no noise, but trainers learnt from means of 16 rows" in rest(off)
    assert "each of these has all its noise" not in rest(off)
    assert "cross-check" not in rest(off)
    assert "NO PRIVACY: rows left without noise" in rest(replace(off, average_rows=1))
    # Nothing is said of rows that were not released.
    assert "released rows" not in rest(with_accuracy(0.86))


@pytest.mark.parametrize(
    ("alone", "words"), [(0.80, "better than"), (0.85, "about as good as"), (0.93, "worse than")]
)
def test_a_run_of_sums_is_held_against_the_sums_alone(alone: float, words: str) -> None:
    facts = replace(
        with_accuracy(0.86, class_sums_accuracy=0.5, moments_accuracy=alone), mode="moments"
    )
    text = rest(facts)
    assert "public rows made to have the noised sums over all samples" in text
    assert f"{words} what these give the owner without them ({100 * alone:.1f} %)" in text
    assert "the exact sums over all samples" in rest(replace(facts, private=False))


def test_intervals_are_wilson_s_and_newcombe_s() -> None:
    for right, samples in ((0, 20), (7, 20), (20, 20), (350, 400)):
        wanted = binomtest(right, samples).proportion_ci(method="wilson")
        assert accuracy_interval(right / samples, samples) == pytest.approx(tuple(wanted))
    # Newcombe 1998, table II (a): 56/70 against 48/80, 95 % interval 0.0524 to 0.3339 (method 10).
    assert accuracies_differ((56 / 70, 70), (48 / 80, 80))
    assert accuracies_differ((48 / 80, 80), (56 / 70, 70))
    # Table II (c): 6/7 against 2/7, 0.0582 to 0.8062; (b): 9/10 against 3/10 as well.
    assert accuracies_differ((6 / 7, 7), (2 / 7, 7))
    assert not accuracies_differ((5 / 56, 56), (0 / 29, 29))


def test_two_runs_are_compared_as_far_as_their_samples_tell() -> None:
    mine, theirs = with_accuracy(0.86, samples=360).results, with_accuracy(0.88, 360).results
    assert compare_accuracies("demo", mine, "off", theirs) == (
        "off and demo: 2.0 points apart, which 360 test samples do not tell from chance"
    )
    theirs = with_accuracy(0.98, 360).results
    assert compare_accuracies("demo", mine, "off", theirs) == (
        "off is better than demo by 12.0 points, more than chance would do"
    )
    assert "demo is worse than off" in compare_accuracies("off", theirs, "demo", mine)

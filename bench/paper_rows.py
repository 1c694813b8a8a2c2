"""Rows of the table of attacks and their targets, as data; whether a figure holds, by rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from clicooper_hpc.attacks.harness.table import TableLine, strongest_table_lines

#: Says yes or no of one figure; None where it has nothing to compare with.
Rule = Callable[[TableLine], bool | None]
Other = Literal["chance", "baseline"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure must reach, in words and as a rule; for ``classes`` alone, if given."""

    words: str
    rule: Rule
    classes: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """Picks one line of the strongest ones.

    Parameters
    ----------
    metric
        How the metric's name begins. Of several lines the strongest is taken.
    shown
        What the cell says before the figure.
    percent
        Shown in per cent, else as a number.
    variant
        How the names of the variants begin that count.
    """

    metric: str
    shown: str
    kind: str = "honest"
    percent: bool = True
    target: Target | None = None
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One attack by one party: the paper's metric, the honest one, and what an attacker has anyway.

    ``ceiling`` names a metric whose figure is the ceiling, where privacy gives none.
    """

    label: str
    attack: str
    party: str
    paper: Metric | None = None
    honest: Metric | None = None
    without: Other = "chance"
    ceiling: str = ""


def _known(value: bool, *others: float) -> bool | None:
    return None if any(math.isnan(other) for other in others) else value


def at_most(limit: float) -> Rule:
    """Value no larger than ``limit``."""
    return lambda line: _known(line.value <= limit, line.value)


def within(other: Other, margin: float) -> Rule:
    """Value no more than ``margin`` above chance or baseline."""

    def rule(line: TableLine) -> bool | None:
        level = line.chance if other == "chance" else line.baseline
        return _known(line.value <= level + margin, line.value, level)

    return rule


def at_chance(line: TableLine) -> bool | None:
    """Chance inside the 95 % interval, or above it."""
    return _known(line.low <= line.chance, line.low, line.chance)


def below_ceiling(line: TableLine) -> bool | None:
    """Not above what differential privacy allows; nothing to say where it allows everything.

    By the low end of the 95 % interval, where there is one: who gains all that is allowed lies
    above the ceiling by chance every second time, and at 0.1 % false ones far above it.
    """
    shown = line.value if math.isnan(line.low) else line.low
    return _known(shown <= line.ceiling, line.value, line.ceiling)


def _learnt(count: int) -> Row:
    metric = f"accuracy, names learnt from {count} per class"
    label = f"extraction, {count} labels a class" if count > 1 else "extraction, 1 label a class"
    honest = Metric(metric, "learnt names")
    return Row(label, "extraction", "outsider", None, honest, "baseline", "accuracy of the victim")


def _stolen(count: int) -> Row:
    metric = f"accuracy, fine-tuned on {count} per class"
    label = f"stolen segments, {count} label{'s' * (count > 1)} a class"
    honest = Metric(metric, "fine-tuned")
    return Row(label, "extraction", "outsider", None, honest, "baseline", "accuracy of the victim")


def _merge(party: str) -> Row:
    nothing = Target("merge: no class exactly recovered (paper)", at_most(0.0))
    paper = Metric("classes exactly recovered", "exactly recovered", "paper", target=nothing)
    least = Target("merge: ARI at most 0.05", at_most(0.05))
    honest = Metric("ARI", "ARI", percent=False, target=least)
    return Row("merge of sub-labels", "merge", party, paper, honest)


_BLANK = Target("inversion: no better than the mean image + 0.01 SSIM", within("baseline", 0.01))
_BLIND = Target("inversion: retrieval at chance", at_chance)
_BOUND = Target("membership: not above the bound of epsilon (95 %)", below_ceiling)
_CLAIM = Target("audit: lower bound of epsilon below the claim", below_ceiling)
_FEW = "true positives at 0.1% false positives"

#: Who stands for all parties where sums over all samples were released: no party is given these.
HELD = "whoever held the moments"


def _names(metric: str, shown: str, percent: bool) -> Row:
    honest = Metric(metric, shown, percent=percent)
    return Row("images grouped by the network's names", "merge", "outsider", None, honest)


def _pictures(label: str, variant: str) -> Row:
    # Targets stand apart by their words: one is met where the other is not.
    words = f"{label}: no better than the mean image + 0.01 SSIM"
    target = Target(words, within("baseline", 0.01))
    honest = Metric("SSIM", "SSIM", percent=False, target=target, variant=variant)
    return Row(label, "decoder", HELD, None, honest, "baseline")


#: The table, in the order of the issue.
ROWS: tuple[Row, ...] = (
    Row(
        "clustering of single rows",
        "clustering",
        "trainer 1",
        Metric(
            "groups found",
            "groups found",
            "paper",
            target=Target("clustering: no group found (paper)", at_most(0.0)),
        ),
        Metric(
            "Hungarian accuracy",
            "Hungarian accuracy",
            target=Target(
                "clustering: Hungarian accuracy within 2 points of chance", within("chance", 0.02)
            ),
        ),
    ),
    _merge("trainer 1"),
    _merge("outsider"),
    Row(
        "class of a sample by its name, labelled images",
        "merge",
        "trainer 1",
        None,
        Metric("class of a sample by its name", "accuracy"),
    ),
    Row(
        "inversion by decoder",
        "decoder",
        "trainer 1",
        Metric(
            "SSIM",
            "SSIM, noise-unaware",
            "paper",
            percent=False,
            target=Target("inversion: SSIM at most 0.03, noise-unaware (paper)", at_most(0.03)),
        ),
        Metric("SSIM", "SSIM, noise-aware", percent=False, target=_BLANK),
        "baseline",
    ),
    Row(
        "retrieval among images",
        "decoder",
        "trainer 1",
        None,
        Metric("retrieval top-1 of", "top-1", target=_BLIND),
    ),
    Row(
        "retrieval among images",
        "decoder",
        "trainer 1",
        None,
        Metric("retrieval top-10 of", "top-10", target=_BLIND),
    ),
    Row(
        "given the images, which row is whose",
        "decoder",
        "trainer 1",
        None,
        Metric("row match top-1 of", "top-1"),
    ),
    Row(
        "inversion by optimisation",
        "optimise",
        "trainer 1",
        None,
        Metric("SSIM", "SSIM", percent=False, target=_BLANK),
        "baseline",
    ),
    Row(
        "property of an image",
        "property",
        "trainer 1",
        None,
        Metric("balanced accuracy", "balanced accuracy"),
        "baseline",
    ),
    Row(
        "membership from rows",
        "membership",
        "trainer 1",
        None,
        Metric(_FEW, "true at 0.1 % false", target=_BOUND),
    ),
    Row(
        "membership from the network",
        "membership",
        "outsider",
        None,
        Metric(_FEW, "true at 0.1 % false", target=_BOUND),
    ),
    Row(
        "completion, up to 10 labels a class",
        "completion",
        "trainer 1",
        None,
        Metric("accuracy on test images", "accuracy"),
        "baseline",
    ),
    Row(
        "extraction, no labels",
        "extraction",
        "outsider",
        Metric(
            "accuracy, identity names",
            "identity names",
            "paper",
            target=Target(
                "extraction: at most 1.5 % with identity names (paper)", at_most(0.015), 100
            ),
        ),
        Metric("accuracy, owner's names (oracle)", "owner's names (oracle)"),
        ceiling="accuracy of the victim",
    ),
    *(_learnt(count) for count in (1, 5, 10)),
    *(_stolen(count) for count in (1, 5, 10)),
    _names("ARI of images by name", "ARI", False),
    _names("Hungarian accuracy of images by name", "Hungarian accuracy", True),
    Row(
        "membership, all samples but one known",
        "membership",
        HELD,
        None,
        Metric(_FEW, "true at 0.1 % false", target=_BOUND),
    ),
    _pictures("inversion of a sample, all others known", "informed"),
    _pictures("inversion of class sums, a picture of the class", "class mean"),
    Row(
        "shares of classes",
        "property",
        HELD,
        None,
        Metric("pairs of classes in the right order", "pairs in order"),
    ),
    Row(
        "audit of the mechanism",
        "dp-audit",
        HELD,
        None,
        Metric("epsilon (", "lower bound of epsilon", percent=False, target=_CLAIM),
    ),
)


def pick(lines: Sequence[TableLine], row: Row, metric: Metric) -> TableLine | None:
    """Return the strongest line of a run for a row's metric, or None."""
    found = [
        line
        for line in lines
        if (line.attack, line.party, line.kind) == (row.attack, row.party, metric.kind)
        and line.metric.startswith(metric.metric)
        and line.variant.startswith(metric.variant)
        and not math.isnan(line.value)
    ]
    # Of each metric the one that allows for the choice among variants, where there is such a one.
    strongest = strongest_table_lines(found)
    return max(strongest, key=lambda line: line.value, default=None)

"""The paper's table: yes and no come from the figures, means over seeds are what they say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from paper_figures import NONE, number, percent, pooled, spread_of, table, verdict
from paper_page import head
from paper_read import Measured
from paper_rows import (
    ROWS,
    Metric,
    Row,
    Target,
    at_chance,
    at_most,
    below_ceiling,
    pick,
    within,
)
from paper_table import Results, attacks, best_off, measures, overview, prices, retentions

from clicooper_hpc.attacks.harness.table import TableLine

NAN = math.nan


def line(
    value: float,
    *,
    attack: str = "merge",
    party: str = "trainer 1",
    metric: str = "ARI",
    kind: str = "honest",
    low: float = NAN,
    high: float = NAN,
    chance: float = NAN,
    baseline: float = NAN,
    ceiling: float = NAN,
) -> TableLine:
    return TableLine(
        attack, "v", party, metric, kind, value, value, value, low, high, chance, baseline,
        ceiling, 1, "",
    )  # fmt: skip


def run(accuracy: float, *lines: TableLine, classes: int = 10, epsilon: float = 8.0) -> Measured:
    return Measured(accuracy, epsilon, classes, "unit sample", lines)


def cells(text: str, start: str) -> list[str]:
    found = [row for row in text.splitlines() if row.startswith(f"| {start}")]
    assert len(found) == 1, text
    return [cell.strip() for cell in found[0].strip("|").split("|")]


@pytest.mark.parametrize(
    ("rule", "given", "expected"),
    [
        (at_most(0.05), line(0.05), True),
        (at_most(0.05), line(0.051), False),
        (at_most(0.0), line(0.0), True),
        (at_most(0.0), line(0.1), False),
        (within("chance", 0.02), line(0.13, chance=0.11), True),
        (within("chance", 0.02), line(0.1301, chance=0.11), False),
        (within("chance", 0.02), line(0.13, baseline=0.2), None),
        (within("baseline", 0.01), line(0.13, baseline=0.12, chance=0.0), True),
        (within("baseline", 0.01), line(0.14, baseline=0.12, chance=0.9), False),
        (at_chance, line(0.02, low=0.0, high=0.04, chance=0.01), True),
        (at_chance, line(0.02, low=0.011, high=0.04, chance=0.01), False),
        (at_chance, line(0.02, chance=0.01), None),
        (below_ceiling, line(0.07, ceiling=0.08), True),
        (below_ceiling, line(0.09, ceiling=0.08), False),
        (below_ceiling, line(0.09, low=0.075, high=0.12, ceiling=0.08), True),
        (below_ceiling, line(0.09, low=0.081, high=0.12, ceiling=0.08), False),
        (below_ceiling, line(0.09), None),
        (at_most(0.05), line(NAN), None),
    ],
)
def test_rules(rule: object, given: TableLine, expected: bool | None) -> None:
    assert callable(rule)
    assert rule(given) is expected


def test_a_verdict_is_that_of_the_mean_and_counts_seeds() -> None:
    target = Target("ARI", at_most(0.05))
    assert verdict(target, [line(0.0), line(0.04), line(0.06)], 10) == "yes 2/3"
    assert verdict(target, [line(0.0), line(0.04), line(0.2)], 10) == "**no** 2/3"
    assert verdict(target, [], 10) == NONE
    assert verdict(Target("bound", below_ceiling), [line(0.5)], 10) == "no bound"
    hundred = Target("names", at_most(0.015), 100)
    assert verdict(hundred, [line(0.1)], 10) == NONE
    assert verdict(hundred, [line(0.1)], 100) == "**no** 0/1"


def test_pooling_narrows_the_interval_as_independent_seeds_do() -> None:
    whole = pooled([line(0.3, low=0.1, high=0.5, chance=0.2)] * 4)
    assert whole.value == pytest.approx(0.3)
    assert whole.low == pytest.approx(0.3 - 0.2 / 2)
    assert whole.high == pytest.approx(0.3 + 0.2 / 2)
    assert whole.chance == pytest.approx(0.2)
    # Each seed alone is at chance, all together are not.
    seeds = [line(0.022, low=0.002, high=0.05, chance=0.01)] * 4
    assert verdict(Target("blind", at_chance), seeds, 10) == "**no** 4/4"


def test_figures_are_shown_with_their_range() -> None:
    assert spread_of([0.5, NAN, 0.6]).text(percent, " %") == "55.0 (50.0..60.0) %"
    assert spread_of([0.5]).text(percent, " %") == "50.0 %"
    assert spread_of([0.5, 0.5001]).text(percent, " %") == "50.0 %"
    assert spread_of([NAN]).text(percent) == NONE
    assert percent(0.0013) == "0.13"
    assert percent(0.0) == "0.0"
    assert number(0.1234) == "0.123"
    assert number(-0.98765) == "-0.99"
    assert table(["a"], [["x | y"]]) == "| a |\n| --- |\n| x / y |"


def test_the_strongest_line_of_the_metric_party_and_kind_is_taken() -> None:
    row = Row("r", "extraction", "outsider")
    lines = [
        line(
            0.3, attack="extraction", party="outsider", metric="accuracy, identity names (modulo)"
        ),
        line(0.4, attack="extraction", party="outsider", metric="accuracy, identity names (other)"),
        line(0.9, attack="extraction", party="trainer 1", metric="accuracy, identity names (x)"),
        line(NAN, attack="extraction", party="outsider", metric="accuracy, identity names (y)"),
        line(0.8, attack="extraction", party="outsider", metric="accuracy, names"),
    ]
    found = pick(lines, row, Metric("accuracy, identity names", ""))
    assert found is not None
    assert found.value == 0.4
    assert pick(lines, row, Metric("accuracy, identity names", "", "paper")) is None


def test_prices_and_retention_by_hand() -> None:
    results = Results(
        job={0: run(0.5), 1: run(0.6), 2: run(0.55)},
        no_map={0: run(0.53), 2: run(0.54)},
        off={
            "16": {0: run(0.6), 1: run(0.7)},
            "64": {0: run(0.8)},
            "none": {},
        },
        retention=0.70,
    )
    assert prices(results) == pytest.approx([0.03, -0.01])
    assert best_off(results) == ("64", 0.8)
    assert retentions(results) == pytest.approx([0.625, 0.75, 0.6875])
    text = measures(results)
    assert cells(text, "price")[1:] == ["1.0 (-1.0..3.0)", "at most 2", "yes 1/2"]
    assert cells(text, "retention")[1:] == ["0.688 (0.625..0.750)", "at least 0.70", "**no** 1/3"]
    assert cells(text, "accuracy on clean")[1] == "55.0 (50.0..60.0) %"


def test_parts_stand_in_the_table_where_the_front_ends_in_class_scores() -> None:
    def parts(whole: float, front: float, network: float) -> Measured:
        return replace(run(whole), front=front, network=network)

    own = {0: parts(0.60, 0.55, 0.50), 1: parts(0.62, 0.57, 0.54)}
    bare = {0: parts(0.59, 0.55, 0.53), 1: parts(0.61, 0.57, 0.57)}
    text = measures(Results(own, bare, {}, None))
    assert cells(text, "of it, the front's")[1] == "56.0 (55.0..57.0) %"
    assert cells(text, "of it, the trainers'")[1] == "52.0 (50.0..54.0) %"
    # The product gains a point with the map, the network alone loses three.
    assert cells(text, "price of the label map, points")[1] == "-1.0"
    assert cells(text, "price of the label map, trainers'")[1] == "3.0"
    assert "of it" not in measures(Results({0: run(0.5)}, {}, {}, None))


def test_what_the_owner_has_without_trainers_stands_beside_a_release_of_sums() -> None:
    one = replace(run(0.72), sums=0.70, moments=0.71)
    text = measures(Results({0: one, 1: replace(one, moments=0.73)}, {}, {}, None))
    assert cells(text, "without trainers, class sums")[1] == "70.0 %"
    assert cells(text, "without trainers, the linear model")[1] == "72.0 (71.0..73.0) %"
    assert "rounds" not in text
    assert "without trainers" not in measures(Results({0: run(0.5)}, {}, {}, None))


def test_without_runs_nothing_is_claimed() -> None:
    results = Results({}, {}, {}, 0.9)
    assert cells(measures(results), "retention")[1:] == [NONE, "at least 0.90", NONE]
    assert "yes" not in measures(results) + attacks({}) + overview({"x": results})
    bare = attacks({0: run(0.5)})
    assert "yes" not in bare
    assert "no" not in [cells_of.strip("* ") for cells_of in bare.split("|")]


def test_the_attack_table_puts_both_metrics_and_both_verdicts_in_a_row() -> None:
    lines = (
        line(0.5, chance=0.08),
        line(0.0, metric="classes exactly recovered", kind="paper", chance=0.0),
    )
    made = attacks({0: run(0.5, *lines), 1: run(0.5, replace(lines[0], value=0.1), lines[1])})
    row = cells(made, "merge of sub-labels, trainer 1")
    assert row[1] == "exactly recovered 0.0 %"
    assert row[2] == "ARI 0.30 (0.100..0.50)"
    assert row[3] == "0.080"
    assert row[5] == "honest: **no** 0/2; paper's: yes 2/2"
    shown = overview({"a": Results({0: run(0.5, *lines)}, {}, {})})
    assert cells(shown, "merge: ARI at most 0.05, trainer 1")[1] == "**no** 0/1"
    assert cells(shown, "merge: no class exactly recovered (paper), trainer 1")[1] == "yes 1/1"


def test_a_copy_is_measured_against_the_victim() -> None:
    learnt = line(0.4, metric="accuracy, names learnt from 5 per class", baseline=0.3)
    victim = line(0.58, metric="accuracy of the victim")
    lines = [replace(one, attack="extraction", party="outsider") for one in (learnt, victim)]
    row = cells(attacks({0: run(0.5, *lines)}), "extraction, 5 labels a class, outsider")
    assert row[2:5] == ["learnt names 40.0 %", "30.0 %", "58.0 %"]


def test_sums_are_judged_by_who_held_them_and_attacks_without_an_object_have_no_row() -> None:
    held = "whoever held the moments"
    lines = [
        replace(line(1.9, metric="epsilon (sample, replace-one) at delta 1e-05"), ceiling=2.0),
        replace(line(0.13, metric="SSIM", baseline=0.125), attack="decoder", variant="informed"),
        replace(line(0.14, metric="SSIM", baseline=0.125), attack="decoder", variant="class mean"),
    ]
    lines = [replace(one, party=held) for one in lines]
    lines[0] = replace(lines[0], attack="dp-audit")
    made = attacks({0: run(0.7, *lines)})
    assert cells(made, f"audit of the mechanism, {held}")[5] == "yes 1/1"
    assert cells(made, f"inversion of a sample, all others known, {held}")[5] == "yes 1/1"
    assert (
        cells(made, f"inversion of class sums, a picture of the class, {held}")[5] == "**no** 0/1"
    )
    above = attacks({0: run(0.7, replace(lines[0], value=2.1))})
    assert cells(above, f"audit of the mechanism, {held}")[5] == "**no** 0/1"
    table, _, rest = made.partition("No figure here")
    assert "clustering" not in table
    assert "clustering of single rows, trainer 1" in rest


def test_every_target_of_the_issue_has_a_row() -> None:
    targets = [
        metric.target.words
        for row in ROWS
        for metric in (row.paper, row.honest)
        if metric is not None and metric.target is not None
    ]
    for word in ("clustering", "merge", "inversion", "retrieval", "extraction", "membership"):
        assert any(word in words for words in targets)


def test_a_page_of_old_runs_says_of_which_commit_and_which_settings() -> None:
    """It named the commit of the page alone, and other settings on the standard error only."""
    old = replace(run(0.5), commit="0123456789")
    newer = replace(run(0.5), commit="abcdef0123")
    said = head({"a": Results({0: old}, {}, {"off": {0: newer}})}, ["a-seed0"])
    assert "Runs made at commit 0123456, abcdef0." in said
    assert "Of other settings than the jobs' now: a-seed0." in said
    bare = head({"a": Results({0: run(0.5)}, {}, {})})
    assert "Runs made" not in bare
    assert "other settings" not in bare

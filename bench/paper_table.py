"""Tables of an entry over its seeds: accuracy and prices, attacks, and targets held. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from paper_figures import NONE, number, percent, spread_of, table, verdict
from paper_read import Measured
from paper_rows import ROWS, Metric, Row, pick

from clicooper_hpc.attacks.harness.table import TableLine

#: The label map may cost so much accuracy, as the issue has it.
PRICE = 0.02


def _accuracy(run: Measured) -> float:
    return run.accuracy


def _network(run: Measured) -> float:
    return run.network


@dataclass(frozen=True, slots=True)
class Results:
    """All runs of an entry, by seed.

    Parameters
    ----------
    job, no_map
        The runs themselves, and those without label map.
    off
        Runs without noise, by name of their settings.
    retention
        Target of retention, if any.
    """

    job: Mapping[int, Measured]
    no_map: Mapping[int, Measured]
    off: Mapping[str, Mapping[int, Measured]]
    retention: float | None = None


def prices(results: Results, of: Callable[[Measured], float] = _accuracy) -> list[float]:
    """Return what the label map costs at each seed that has both runs, as a part of 1."""
    both = sorted(results.job.keys() & results.no_map.keys())
    return [of(results.no_map[seed]) - of(results.job[seed]) for seed in both]


def best_off(results: Results) -> tuple[str, float]:
    """Return the settings with the best mean accuracy without noise, and that; nan of none."""
    means = {
        name: spread_of([one.accuracy for one in runs.values()]).mean
        for name, runs in results.off.items()
        if runs
    }
    return max(means.items(), key=lambda item: item[1], default=("", math.nan))


def retentions(results: Results) -> list[float]:
    """Return accuracy / best accuracy without noise at each seed."""
    best = best_off(results)[1]
    return [one.accuracy / best for one in results.job.values() if not math.isnan(best)]


def measures(results: Results) -> str:
    """Return the table of accuracy, price of the map, retention and epsilon."""
    own = spread_of([one.accuracy for one in results.job.values()])
    bare = spread_of([one.accuracy for one in results.no_map.values()])
    rows = [
        ["accuracy on clean images", own.text(percent, " %"), NONE, NONE],
        ["the same without label map", bare.text(percent, " %"), NONE, NONE],
        [
            "price of the label map, points",
            spread_of(prices(results)).text(percent),
            "at most 2",
            _price_holds(results),
        ],
    ]
    rows += _parts(results)
    rows += _without_trainers(results)
    for name, runs in results.off.items():
        reached = spread_of([one.accuracy for one in runs.values()]).text(percent, " %")
        rows.append([f"accuracy without noise, {name}", reached, NONE, NONE])
    rows.append(
        [
            "retention, of the best without noise",
            spread_of(retentions(results)).text(lambda value: f"{value:.3f}"),
            NONE if results.retention is None else f"at least {results.retention:.2f}",
            _retention_holds(results),
        ]
    )
    epsilons = spread_of([one.epsilon for one in results.job.values()])
    shown = epsilons.text(lambda value: f"{value:.4g}")
    return table(
        ["measure", "mean (range over seeds)", "target", "holds"],
        [*rows, ["epsilon of a whole sample", shown, NONE, NONE]],
    )


def _parts(results: Results) -> list[list[str]]:
    """Return rows on the parts of a model whose front ends in class scores."""
    runs = list(results.job.values())
    if not runs or math.isnan(runs[0].front):
        return []
    front, network = (
        spread_of(values).text(percent, " %")
        for values in ([one.front for one in runs], [one.network for one in runs])
    )
    price = spread_of(prices(results, _network)).text(percent)
    return [
        ["of it, the front's class scores alone", front, NONE, NONE],
        ["of it, the trainers' network alone", network, NONE, NONE],
        ["price of the label map, trainers' network alone, points", price, NONE, NONE],
    ]


def _without_trainers(results: Results) -> list[list[str]]:
    """Return rows on what the owner has without trainers, where it released sums over all."""
    runs = list(results.job.values())
    reached = {
        "class sums alone": [one.sums for one in runs],
        "the linear model of all moments": [one.moments for one in runs],
        "the same after rounds of gradients": [one.gradients for one in runs],
    }
    shown = {name: spread_of(values).text(percent, " %") for name, values in reached.items()}
    return [
        [f"without trainers, {name}", text, NONE, NONE]
        for name, text in shown.items()
        if text != NONE
    ]


def _price_holds(results: Results) -> str:
    made = prices(results)
    return _counted(spread_of(made).mean <= PRICE, [one <= PRICE for one in made])


def _retention_holds(results: Results) -> str:
    made, least = retentions(results), results.retention
    if least is None:
        return NONE
    return _counted(spread_of(made).mean >= least, [one >= least for one in made])


def _counted(whole: bool, each: Sequence[bool]) -> str:
    return f"{'yes' if whole else '**no**'} {sum(each)}/{len(each)}" if each else NONE


def attacks(runs: Mapping[int, Measured]) -> str:
    """Return the table of attacks, a row for each of `ROWS`, over the runs that were attacked."""
    attacked = [run for run in runs.values() if run.lines]
    if not attacked:
        return "Not attacked yet."
    head = ["attack, by", "paper's metric", "honest metric", "without information"]
    with_object: list[Row] = []
    without: list[Row] = []
    for row in ROWS:
        (with_object if _has_figure(row, attacked) else without).append(row)
    text = table([*head, "ceiling", "holds"], [_cells(row, attacked) for row in with_object])
    if without:
        named = "; ".join(dict.fromkeys(f"{row.label}, {row.party}" for row in without))
        text += f"\n\nNo figure here, for want of an object or of an attempt: {named}."
    return text


def _has_figure(row: Row, runs: Sequence[Measured]) -> bool:
    metrics = [metric for metric in (row.paper, row.honest) if metric is not None]
    return any(_lines(runs, row, metric) for metric in metrics)


def _cells(row: Row, runs: Sequence[Measured]) -> list[str]:
    paper, honest = (
        [] if metric is None else _lines(runs, row, metric) for metric in (row.paper, row.honest)
    )
    show = percent if row.honest is None or row.honest.percent else number
    unit = " %" if row.honest is None or row.honest.percent else ""
    levels = [line.chance if row.without == "chance" else line.baseline for line in honest]
    ceilings = [line.ceiling for line in honest]
    if row.ceiling:
        victim = Metric(row.ceiling, "")
        ceilings = [line.value for line in _lines(runs, row, victim)]
    classes = runs[0].classes if runs else 0
    held = [
        f"{name}: {said}" if row.paper and row.paper.target else said
        for name, metric, lines in (("honest", row.honest, honest), ("paper's", row.paper, paper))
        if metric is not None and metric.target is not None
        for said in [verdict(metric.target, lines, classes)]
        if said != NONE
    ]
    return [
        f"{row.label}, {row.party}",
        _cell(row.paper, paper),
        _cell(row.honest, honest),
        spread_of(levels).text(show, unit),
        spread_of(ceilings).text(show, unit),
        "; ".join(held) or NONE,
    ]


def _lines(runs: Sequence[Measured], row: Row, metric: Metric) -> list[TableLine]:
    found = [pick(one.lines, row, metric) for one in runs]
    return [line for line in found if line is not None]


def _cell(metric: Metric | None, lines: Sequence[TableLine]) -> str:
    if metric is None or not lines:
        return NONE
    values = spread_of([line.value for line in lines])
    if metric.percent:
        return f"{metric.shown} {values.text(percent, ' %')}"
    return f"{metric.shown} {values.text(number)}"


def overview(entries: Mapping[str, Results]) -> str:
    """Return one row for each target, one column for each entry."""
    said: dict[str, dict[str, str]] = {}
    for name, results in entries.items():
        runs = list(results.job.values())
        for row in ROWS:
            for metric in (row.honest, row.paper):
                if metric is not None and metric.target is not None and runs:
                    words = f"{metric.target.words}, {row.party}"
                    words += f", {metric.shown}" if "retrieval" in words else ""
                    words += ", by optimisation" if row.attack == "optimise" else ""
                    lines = _lines(runs, row, metric)
                    said.setdefault(words, {})[name] = verdict(
                        metric.target, lines, runs[0].classes
                    )
        said.setdefault("label map: at most 2 points", {})[name] = _price_holds(results)
        said.setdefault("retention", {})[name] = _retention_holds(results)
    rows = [[words, *(cells.get(name, NONE) for name in entries)] for words, cells in said.items()]
    return table(["target", *entries], [row for row in rows if set(row[1:]) != {NONE}])

"""Points of the frontier: read from `frontier.toml`, normalised, as a table."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paper_figures import NONE, number, percent, table
from paper_read import Measured
from paper_rows import Metric, Row, pick
from paper_runs import Attacking, Planned

from clicooper_hpc.attacks.harness.table import TableLine

#: One panel and one column each: what an attacker gains honestly.
PANELS: tuple[Row, ...] = (
    Row(
        "clustering of rows",
        "clustering",
        "trainer 1",
        None,
        Metric("Hungarian accuracy", "Hungarian accuracy"),
    ),
    Row("merge of sub-labels", "merge", "trainer 1", None, Metric("ARI", "ARI", percent=False)),
    Row(
        "inversion by decoder",
        "decoder",
        "trainer 1",
        None,
        Metric("SSIM", "SSIM", percent=False),
        "baseline",
    ),
    Row(
        "membership from rows",
        "membership",
        "trainer 1",
        None,
        Metric("true positives at 0.1% false positives", "true at 0.1 % false"),
    ),
    Row(
        "extraction, 10 labels a class",
        "extraction",
        "outsider",
        None,
        Metric("accuracy, names learnt from 10 per class", "accuracy"),
        "baseline",
    ),
)

#: Columns on what the owner has without trainers, where it released sums over all samples.
_ALONE = ("class sums alone", "moments alone")


@dataclass(frozen=True, slots=True)
class Point:
    """A run at one noise; see the head of `frontier.toml`."""

    release: str
    noise: str
    shipped: str
    map: str
    planned: Planned


def read_points(path: Path, *, scale: float | None = None, only: Sequence[str] = ()) -> list[Point]:
    """Read all points.

    ``scale`` takes the place of the file's; with ``only``, releases named so alone.
    """
    sheet = tomllib.loads(path.read_text())
    points = []
    for release in sheet["releases"]:
        if only and release["name"] not in only:
            continue
        attacking = Attacking(
            tuple(sheet["parties"]),
            Path(release["public"]) if "public" in release else None,
            tuple(sheet["only"]),
            1,
            sheet["scale"] if scale is None else scale,
            sheet["attack_ranks"],
        )
        for one in release["points"]:
            unknown = one.keys() - {"noise", "shipped", "map", "set"}
            if unknown:
                raise ValueError(f"a point of {release['name']} has {sorted(unknown)}")
            words = f"{release['name']} {one['noise']} {one.get('map', '')}".replace(",", "")
            settings = [*sheet["common"], *release["set"], *sheet["noises"][one["noise"]]]
            settings += [*one.get("set", []), f"training.seed={sheet['seed']}"]
            planned = Planned(
                "-".join(words.split()),
                Path(release["job"]),
                tuple(settings),
                attacking,
                sheet["ranks"],
            )
            shipped, label_map = one.get("shipped", ""), one.get("map", "")
            points.append(Point(release["name"], one["noise"], shipped, label_map, planned))
    return points


def unit_of(noise: str) -> str:
    """Return what kind of noise a name of the file says: off, element or sample."""
    return next(word for word in ("off", "element", "sample") if word in noise.split())


def without_of(row: Row, line: TableLine) -> float:
    """Return the figure of an attacker who has no information."""
    return line.chance if row.without == "chance" else line.baseline


def gain(row: Row, measured: Measured) -> float:
    """Return how far an attacker is above one without information.

    nan if it was not measured, or where a blind guess is right already: with one name a class there
    is nothing to merge, and a gain of 0 would look like a defence.
    """
    line = None if row.honest is None else pick(measured.lines, row, row.honest)
    if line is None or without_of(row, line) >= 1:
        return math.nan
    return line.value - without_of(row, line)


def normalised(row: Row, found: Sequence[tuple[Point, Measured]]) -> list[float]:
    """Return gains over the largest gain without noise: 0 no information, 1 undefended.

    nan everywhere if without noise nothing is gained, or nothing was measured.
    """
    gains = [gain(row, measured) for _, measured in found]
    open_gains = [
        one
        for one, (point, _) in zip(gains, found, strict=True)
        if unit_of(point.noise) == "off" and not math.isnan(one)
    ]
    most = max(open_gains, default=math.nan)
    return [one / most if most > 0 else math.nan for one in gains]


def points_table(found: Sequence[tuple[Point, Measured]]) -> str:
    """Return one row a point: accuracy and each attack's figure with that without information."""
    rows = []
    for point, measured in found:
        cells = [
            point.release,
            point.noise.removeprefix("maps ") + (f", {point.map}" if point.map else ""),
            NONE if math.isinf(measured.epsilon) else f"{measured.epsilon:.3g}",
            f"{percent(measured.accuracy)} %",
            *(
                NONE if math.isnan(one) else f"{percent(one)} %"
                for one in (measured.sums, measured.moments)
            ),
        ]
        for row in PANELS:
            line = None if row.honest is None else pick(measured.lines, row, row.honest)
            show = percent if row.honest is not None and row.honest.percent else number
            cells.append(
                NONE if line is None else f"{show(line.value)} ({show(without_of(row, line))})"
            )
        rows.append([*cells, point.shipped or ""])
    names = [
        f"{row.label}: {row.honest.shown}{', %' if row.honest.percent else ''}"
        for row in PANELS
        if row.honest is not None
    ]
    return table(
        ["release", "noise", "sample epsilon", "accuracy", *_ALONE, *names, "shipped"], rows
    )

"""The frontier: gains are measured from no information to what no noise gives away."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from frontier_points import PANELS, Point, gain, normalised, points_table, read_points, unit_of
from paper_read import Measured
from paper_runs import Planned

from clicooper_hpc.attacks.harness.table import TableLine

BENCH = Path(__file__).resolve().parents[2] / "bench"

NAN = math.nan
CLUSTERING, MERGE, DECODER, MEMBERSHIP, EXTRACTION = PANELS


def point(noise: str, release: str = "a", shipped: str = "") -> Point:
    return Point(release, noise, shipped, "", Planned("n", Path("j.toml"), ()))


def measured(value: float, chance: float, baseline: float, accuracy: float = 0.5) -> Measured:
    lines = tuple(
        TableLine(
            row.attack, "v", row.party, row.honest.metric, "honest", value, value, value, NAN, NAN,
            chance, baseline, NAN, 1, "",
        )
        for row in PANELS
        if row.honest is not None
    )  # fmt: skip
    return Measured(accuracy, math.inf, 10, "", lines)


def test_gain_is_above_chance_or_above_what_is_known_anyway() -> None:
    one = measured(0.5, 0.1, 0.3)
    assert gain(CLUSTERING, one) == pytest.approx(0.4)
    assert gain(MERGE, one) == pytest.approx(0.4)
    assert gain(DECODER, one) == pytest.approx(0.2)
    assert gain(EXTRACTION, one) == pytest.approx(0.2)
    assert math.isnan(gain(MERGE, Measured(0.5, 1.0, 10, "")))
    assert math.isnan(gain(MERGE, measured(1.0, 1.0, 0.3))), "nothing to merge is no defence"


def test_the_largest_gain_without_noise_is_one() -> None:
    found = [
        (point("off"), measured(0.9, 0.1, 0)),
        (point("maps off", "b"), measured(0.5, 0.1, 0)),
        (point("sample 8"), measured(0.3, 0.1, 0)),
        (point("sample 1"), measured(0.1, 0.1, 0)),
        (point("element 2"), Measured(0.5, 1.0, 10, "")),
    ]
    made = normalised(MERGE, found)
    assert made[:4] == pytest.approx([1.0, 0.5, 0.25, 0.0])
    assert math.isnan(made[4])
    assert all(math.isnan(one) for one in normalised(MERGE, found[2:]))
    nothing = [(point("off"), measured(0.1, 0.1, 0)), (point("sample 1"), measured(0.2, 0.1, 0))]
    assert all(math.isnan(one) for one in normalised(MERGE, nothing))


def test_the_shipped_points_are_read_and_have_names_of_their_own() -> None:
    points = read_points(BENCH / "frontier.toml", scale=0.1)
    names = [one.planned.name for one in points]
    assert len(set(names)) == len(names)
    assert {unit_of(one.noise) for one in points} == {"off", "element", "sample"}
    for release in {one.release for one in points}:
        mine = [one for one in points if one.release == release]
        off = [unit_of(one.noise) == "off" for one in mine]
        assert off[0] or not any(off), "lines begin without noise"
    attacked = [one.planned.attacking for one in points]
    assert all(one is not None and one.scale == 0.1 for one in attacked)
    assert any(one.shipped for one in points)
    some = read_points(BENCH / "frontier.toml", only=[points[0].release])
    assert {one.release for one in some} == {points[0].release}


def test_the_table_shows_figures_beside_those_without_information() -> None:
    text = points_table([(point("sample 8", shipped="job"), measured(0.5, 0.1, 0.3, 0.617))])
    row = [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]
    assert row == [
        *("a", "sample 8", "-", "61.7 %", "-", "-", "50.0 (10.0)", "0.50 (0.100)", "0.50 (0.30)"),
        *("50.0 (10.0)", "50.0 (30.0)", "job"),
    ]


def test_a_point_of_moments_shows_what_the_owner_has_without_trainers() -> None:
    one = replace(measured(0.5, 0.1, 0.3, 0.717), sums=0.702, moments=0.715)
    row = points_table([(point("sample 2"), one)]).splitlines()[-1].split("|")
    assert [cell.strip() for cell in row[4:7]] == ["71.7 %", "70.2 %", "71.5 %"]


def test_every_point_is_a_job_that_can_be_started() -> None:
    points = read_points(BENCH / "frontier.toml")
    for one in points:
        replace(one.planned, job=BENCH.parent / one.planned.job).check()
    modes = {setting for one in points for setting in one.planned.overrides}
    assert {f'release.mode="{mode}"' for mode in ("sums", "moments", "gradients")} <= modes


def test_the_figure_is_drawn_with_gaps(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from frontier_figure import draw

    found = [
        (point("off"), measured(0.9, 0.1, 0, 0.7)),
        (point("sample 8", shipped="job"), measured(0.3, 0.1, 0, 0.6)),
        (point("element 2", "b"), Measured(0.5, 1.0, 10, "")),
    ]
    draw(found, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")

"""The drawn grid against golden files.

After a wanted change of the drawing, ``python tests/pipeline/test_schedule_grid.py`` writes the
files anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from clicooper_hpc.pipeline.schedule import Coupling, make_schedule
from clicooper_hpc.pipeline.schedule_grid import render_schedule_grid
from clicooper_hpc.pipeline.simulator import Simulation, simulate

GOLDEN = Path(__file__).parent / "golden"


def run(
    name: str,
    micro_batches: int,
    forward: list[float],
    backward: list[float],
    *,
    coupling: Coupling = "backprop",
    message_cost: float = 0.0,
    slots: int | None = None,
) -> Simulation:
    return simulate(
        make_schedule(name, len(forward), micro_batches),
        coupling=coupling,
        forward_cost=forward,
        backward_cost=backward,
        message_cost=message_cost,
        slots=slots,
    )


CASES = {
    "1f1b-3x4": run("1f1b", 4, [1] * 3, [1] * 3),
    "1f1b-4x2-short-batch": run("1f1b", 2, [1] * 4, [2] * 4),
    "1f1b-4x16-blocks": run("1f1b", 16, [1] * 4, [2] * 4),
    "1f1b-4x64-letters": run("1f1b", 64, [1] * 4, [2] * 4),
    "1f1b-3x6-uneven": run("1f1b", 6, [0.02, 0.05, 0.03], [0.04, 0.12, 0.05], message_cost=0.004),
    "gpipe-3x4": run("gpipe", 4, [1] * 3, [2] * 3, message_cost=0.5),
    "one-way-3x6-one-slot": run(
        "one-way", 6, [1] * 3, [1] * 3, coupling="one-way", message_cost=0.5, slots=1
    ),
    "forward-only-3x6": run("forward-only", 6, [1] * 3, [1] * 3),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="ascii")
    assert render_schedule_grid(CASES[name]) + "\n" == expected


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [40, 57, 100, 200])
def test_every_line_keeps_the_width(name: str, width: int) -> None:
    lines = render_schedule_grid(CASES[name], width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [40, 57, 100])
@pytest.mark.parametrize("name", ["1f1b-3x4", "gpipe-3x4", "one-way-3x6-one-slot"])
def test_every_operation_is_labelled_once(name: str, width: int) -> None:
    simulation = CASES[name]
    rows: dict[str, str] = {}
    for line in render_schedule_grid(simulation, width=width).splitlines():
        if line.startswith("segment"):
            rows[line[:9]] = rows.get(line[:9], "") + line[11:].ljust(1)
    for row, lane in zip(rows.values(), simulation.lanes, strict=True):
        words = row.replace(".", " ").replace("-", " ").replace("F", " F").replace("B", " B")
        assert words.split() == [str(timed.op) for timed in lane]


def test_the_owner_can_be_left_out() -> None:
    text = render_schedule_grid(CASES["1f1b-3x4"], owner=False)
    assert "owner" not in text
    assert text == "\n".join(
        line
        for line in render_schedule_grid(CASES["1f1b-3x4"]).splitlines()
        if not line.startswith("owner")
    )


def test_a_step_without_cost_can_be_drawn() -> None:
    assert render_schedule_grid(run("gpipe", 2, [0], [0])).startswith("time 0 to 0")


def test_too_narrow_a_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 40 columns"):
        render_schedule_grid(CASES["1f1b-3x4"], width=39)


if __name__ == "__main__":
    for case, simulation in CASES.items():
        (GOLDEN / f"{case}.txt").write_text(
            render_schedule_grid(simulation) + "\n", encoding="ascii"
        )

"""A tolerance lets rounding pass and nothing that leaves work out; it is never called exact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cheats import CHEATS, FIRST, SkipsUpdates, claim_of
from stage import Case, train
from torch import Tensor

from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.audit.tolerance import (
    StageWay,
    tensor_distances,
    tolerance_from_replays,
    tolerance_verdict,
)
from clicooper_hpc.audit.verdict import StageOutcome, exact_verdict
from clicooper_hpc.pipeline.runtime import SegmentRuntime, StepReport
from clicooper_hpc.runstore.safetensors_files import unpack_safetensors
from clicooper_hpc.training.replay_conditions import (
    CONDITIONS,
    differing_conditions,
    replay_conditions,
)
from clicooper_hpc.training.segment_state import export_segment_state

TOLERANCE = 0.02


def ways(starts: Sequence[Mapping[str, Tensor]], steps: int = 9) -> list[StageWay]:
    return [StageWay(start, steps, {}) for start in starts]


class SkipsOneUpdate(SkipsUpdates):
    def _update(self, step: int, learning_rate: float, report: StepReport) -> None:
        if step != FIRST:
            return SegmentRuntime._update(self, step, learning_rate, report)
        return super()._update(step, learning_rate, report)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_update_left_out_is_too_far(number: int, optimizer: str) -> None:
    case = Case(optimizer=optimizer)
    steps = case.steps()
    starts = train(case, steps[:6]).states
    replayed = train(case, steps[6:], starts)
    honest = tolerance_verdict(replayed, claim_of(replayed), ways(starts), TOLERANCE)
    assert honest.outcome is StageOutcome.TOL
    cheated = train(case, steps[6:], starts, {number: SkipsOneUpdate})
    verdict = tolerance_verdict(replayed, claim_of(cheated), ways(starts), TOLERANCE)
    assert verdict.outcome is StageOutcome.FAIL
    assert verdict.at_fault == ()
    assert not verdict.outcome_of(number).passed
    assert "suspected, not convicted" in verdict.lines()[0]


def test_equal_to_the_byte_is_still_not_called_exact() -> None:
    case = Case()
    result = train(case, case.steps())
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    verdict = tolerance_verdict(result, claim_of(result), ways(starts), TOLERANCE)
    assert verdict.outcome is StageOutcome.TOL
    assert verdict.lines()[0].startswith("TOL  ")
    assert "EXACT" not in "\n".join(verdict.lines())
    assert "was not tested" in verdict.detail


def test_a_small_change_passes_a_tolerance_and_fails_the_exact_comparison() -> None:
    """What TOL does not show: the reason why it is a verdict of its own."""
    case = Case()
    steps = case.steps()
    starts = train(case, steps[:6]).states
    replayed = train(case, steps[6:], starts)
    claim = claim_of(train(case, steps[6:], starts, {2: CHEATS["wrong rate"][0]}))
    assert tolerance_verdict(replayed, claim, ways(starts), TOLERANCE).outcome is StageOutcome.TOL
    assert exact_verdict(replayed, claim).at_fault == (2,)


@pytest.mark.parametrize("kind", ["exp_avg", "exp_avg_sq", "step", "weight", "head"])
def test_every_part_of_a_state_counts(kind: str) -> None:
    """A counter or a large weight must not drown what is small."""
    case = Case(optimizer="adamw", coupling="one-way")
    steps = case.steps()
    starts = train(case, steps[:6]).states
    replayed = train(case, steps[6:], starts)
    wanted = (
        (lambda name: name.endswith((f"/{kind}", f".{kind}")))
        if kind != "head"
        else (lambda name: "/head/" in name)
    )
    states = [*replayed.states]
    assert any(wanted(name) for name in states[1])
    states[1] = {n: v * 0.5 if wanted(n) else v for n, v in states[1].items()}
    verdict = tolerance_verdict(replayed, StageClaim(states, {}), ways(starts), TOLERANCE)
    assert [one.rank for one in verdict.withheld] == [2]


def distance(
    claimed: dict[str, Tensor], replayed: dict[str, Tensor], start: dict[str, Tensor], **others: Any
) -> float:
    way = StageWay(start, others.pop("steps", 1), others.pop("carriers", {}))
    return tensor_distances(claimed, replayed, way, TOLERANCE).value


def test_distance_is_a_fraction_of_each_tensors_own_way() -> None:
    """A large tensor that moves far does not hide a small one that does not move."""
    start = {"weights/a": torch.zeros(3, 400), "weights/b": torch.ones(2)}
    end = {"weights/a": torch.full((3, 400), 9.0), "weights/b": torch.full((2,), 1.5)}
    assert distance(end, end, start) == 0.0
    assert distance({**end, "weights/a": torch.full((3, 400), 8.1)}, end, start) == pytest.approx(
        0.1
    )
    assert distance({**end, "weights/b": torch.ones(2)}, end, start) == 1.0
    assert distance(start, end, start) == 1.0
    assert distance(end, {**end, "weights/c": torch.ones(1)}, start) == torch.inf
    new = {"training/optimizer/0000/exp_avg": torch.full((4,), 2.0)}
    half = {"training/optimizer/0000/exp_avg": torch.full((4,), 1.0)}
    assert distance(half, new, {}) == 0.5


def test_the_mark_neither_lengthens_the_way_nor_hides_in_it() -> None:
    """A trainer that does nothing but put its mark in was within 0.02 when both were one."""
    start = {"weights/a": torch.zeros(100, 10)}
    mark = torch.zeros(100, 10, dtype=torch.bool)
    mark[:, ::2] = True
    end = {"weights/a": torch.where(mark, 5.0, 0.01)}
    idle = {"weights/a": torch.where(mark, 5.0, 0.0)}
    assert distance(idle, end, start) < TOLERANCE
    assert distance(idle, end, start, carriers={"weights/a": mark}) == 1.0
    bare = {"weights/a": torch.full((100, 10), 0.01)}
    assert distance(bare, end, start, carriers={"weights/a": mark}) > 0.9


def test_what_moves_less_than_rounding_must_stand_still_and_shows_no_work() -> None:
    start = {"weights/a": torch.ones(1000)}
    end = {"weights/a": torch.full((1000,), 1.0 + 2.0**-22)}
    way = StageWay(start, 4, {})
    found = tensor_distances(start, end, way, TOLERANCE)
    assert not found.moves
    # It may be off by what rounding does in as many steps, and no more.
    assert tensor_distances(end, end, way, TOLERANCE).value == 0.0
    near, far = ({"weights/a": end["weights/a"] + d} for d in (2.0**-23, 2.0**-19))
    assert tensor_distances(near, end, way, TOLERANCE).value <= TOLERANCE
    assert tensor_distances(far, end, way, TOLERANCE).value > TOLERANCE
    case = Case(cuts=())
    replayed = train(case, case.steps()[:2])
    result = type(replayed)((end,), replayed.trace, replayed.losses)
    verdict = tolerance_verdict(result, StageClaim([end], {}), [way], TOLERANCE)
    assert verdict.outcome is StageOutcome.OPEN
    assert "nothing can be measured" in verdict.lines()[1]


@pytest.mark.parametrize(
    "broken",
    [
        torch.full((4,), torch.nan),
        torch.full((4,), torch.inf),
        torch.zeros(5),
        torch.zeros(4).int(),
    ],
)
def test_what_is_no_number_is_too_far(broken: Tensor) -> None:
    case = Case(cuts=())
    replayed = train(case, case.steps()[:2])
    good = {"weights/a": torch.ones(4)}
    result = type(replayed)((good,), replayed.trace, replayed.losses)
    start = {"weights/a": torch.zeros(4)}
    assert (
        tolerance_verdict(result, StageClaim([good], {}), ways([start]), 0.99).outcome
        is StageOutcome.TOL
    )
    claim = StageClaim([{"weights/a": broken}], {})
    assert tolerance_verdict(result, claim, ways([start]), 0.99).outcome is StageOutcome.FAIL


def test_bad_arguments_are_refused() -> None:
    case = Case()
    result = train(case, case.steps()[:2])
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    for tolerance in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="a tolerance of"):
            tolerance_verdict(result, claim_of(result), ways(starts), tolerance)
    with pytest.raises(ValueError, match="3 claims for 3 segments"):
        tolerance_verdict(result, claim_of(result), ways(starts[:2]), 0.1)


def test_a_tolerance_comes_from_enough_honest_replays() -> None:
    assert tolerance_from_replays([1e-4] * 19 + [2e-4]) == pytest.approx(6e-4)
    with pytest.raises(ValueError, match="at least 20"):
        tolerance_from_replays([1e-4] * 19)
    with pytest.raises(ValueError, match="at least 20"):
        tolerance_from_replays([1e-4] * 20 + [float("nan")])


pytestmark = pytest.mark.usefixtures("one_thread")

ELSEWHERE = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from stage import Case, train
from clicooper_hpc.training.replay_conditions import replay_conditions
from clicooper_hpc.runstore.safetensors_files import pack_safetensors

case = Case()
for number, state in enumerate(train(case, case.steps()).states):
    (Path(sys.argv[2]) / f"{number}").write_bytes(pack_safetensors(state, {}))
print(json.dumps(replay_conditions(torch.device("cpu"))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True])
def test_another_processor_is_within_the_tolerance_and_known_as_another(
    tmp_path: Path, elsewhere: bool
) -> None:
    """Libraries told to do without vector instructions stand for an older machine."""
    import json

    switches = {}
    if elsewhere:
        switches = {
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_CBWR": "COMPATIBLE",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
        }
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **switches},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    case = Case()
    here = train(case, case.steps())
    states = [
        unpack_safetensors((tmp_path / f"{number}").read_bytes(), where="there")
        for number in range(3)
    ]
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    claim = claim_of(here, states)
    assert tolerance_verdict(here, claim, ways(starts), 1e-3).outcome is StageOutcome.TOL
    other = differing_conditions(json.loads(done.stdout), replay_conditions(torch.device("cpu")))
    if elsewhere:
        assert other
    else:
        assert other == []
        assert exact_verdict(here, claim).outcome is StageOutcome.EXACT


def test_conditions_say_what_differs() -> None:
    here = replay_conditions(torch.device("cpu"))
    assert tuple(sorted(here)) == CONDITIONS
    assert differing_conditions({**here, "host": "elsewhere"}, here) == []
    assert differing_conditions({**here, "threads": "7"}, here) == ["threads: 7 in the run, 1 here"]
    del here["torch"]
    assert differing_conditions(here, replay_conditions(torch.device("cpu")))[0].startswith(
        "torch: not recorded"
    )
    torch.set_num_threads(2)
    assert replay_conditions(torch.device("cpu"))["threads"] == "2"

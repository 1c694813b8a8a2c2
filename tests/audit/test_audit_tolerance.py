"""A tolerance lets rounding pass and nothing that leaves work out; it is never called exact."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cheats import CHEATS, FIRST, SkipsUpdates, claim_of
from stage import Case, train
from torch import Tensor

from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.audit.tolerance import (
    StateDistance,
    tolerance_distance,
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
    honest = tolerance_verdict(replayed, claim_of(replayed), starts, TOLERANCE)
    assert honest.outcome is StageOutcome.TOL
    cheated = train(case, steps[6:], starts, {number: SkipsOneUpdate})
    verdict = tolerance_verdict(replayed, claim_of(cheated), starts, TOLERANCE)
    assert verdict.outcome is StageOutcome.FAIL
    assert number in verdict.at_fault
    assert "suspected, not convicted" in verdict.lines()[0]


def test_equal_to_the_byte_is_still_not_called_exact() -> None:
    case = Case()
    result = train(case, case.steps())
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    verdict = tolerance_verdict(result, claim_of(result), starts, TOLERANCE)
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
    assert tolerance_verdict(replayed, claim, starts, TOLERANCE).outcome is StageOutcome.TOL
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
    verdict = tolerance_verdict(replayed, StageClaim(states, {}), starts, TOLERANCE)
    assert verdict.at_fault == (2,)


def test_distance_is_a_fraction_of_the_way() -> None:
    start = {"weights/a": torch.zeros(3, 4), "weights/b": torch.ones(2)}
    end = {"weights/a": torch.full((3, 4), 2.0), "weights/b": torch.ones(2)}
    off = {"weights/a": torch.full((3, 4), 2.5), "weights/b": torch.ones(2)}
    assert tolerance_distance(end, end, start) == StateDistance(0.0, 0.0)
    assert tolerance_distance(end, off, start) == StateDistance(0.25, 0.0)
    assert tolerance_distance(start, end, start).weights == torch.inf  # claims not to have moved
    assert tolerance_distance(end, {**end, "weights/c": torch.ones(1)}, start).largest == torch.inf
    new = {"training/optimizer/0000/exp_avg": torch.full((4,), 2.0)}
    half = {"training/optimizer/0000/exp_avg": torch.full((4,), 1.0)}
    assert tolerance_distance(new, half, {}) == StateDistance(0.0, 0.5)


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
        tolerance_verdict(result, StageClaim([good], {}), [start], 0.99).outcome is StageOutcome.TOL
    )
    claim = StageClaim([{"weights/a": broken}], {})
    assert tolerance_verdict(result, claim, [start], 0.99).outcome is StageOutcome.FAIL


def test_bad_arguments_are_refused() -> None:
    case = Case()
    result = train(case, case.steps()[:2])
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    for tolerance in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="a tolerance of"):
            tolerance_verdict(result, claim_of(result), starts, tolerance)
    with pytest.raises(ValueError, match="3 claims for 3 segments"):
        tolerance_verdict(result, claim_of(result), starts[:2], 0.1)


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
    assert tolerance_verdict(here, claim, starts, 1e-3).outcome is StageOutcome.TOL
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

"""Whoever departs is named, and nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cheats import CHEATS, FIRST, SkipsUpdates, claim_of, noisy
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import Case, train

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.replayed_release import replayed_release_digests
from clicooper_hpc.audit.stage_claim import StageClaim
from clicooper_hpc.audit.verdict import (
    StageOutcome,
    StageVerdict,
    exact_verdict,
    first_verdict_difference,
)
from clicooper_hpc.errors import EvidenceError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.pipeline.schedule import Coupling
from clicooper_hpc.transport.message_kind import Kind

pytestmark = pytest.mark.usefixtures("one_thread")

COUPLINGS: list[tuple[Coupling, str]] = [
    ("backprop", "1f1b"),
    ("backprop", "gpipe"),
    ("one-way", "1f1b"),
]
SEGMENTS = 3


def audit(case: Case, kinds: dict[int, type[SegmentRuntime]]) -> StageVerdict:
    """A stage in the middle of a run, from step 6 to the end, trained by ``kinds``; its verdict."""
    steps = case.steps()
    starts = train(case, steps[:6]).states
    return exact_verdict(
        train(case, steps[6:], starts), claim_of(train(case, steps[6:], starts, kinds))
    )


@pytest.mark.parametrize(("coupling", "schedule"), COUPLINGS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_honest_stage_is_exact(coupling: Coupling, schedule: str, optimizer: str) -> None:
    verdict = audit(Case(coupling=coupling, schedule=schedule, optimizer=optimizer), {})
    assert verdict.outcome is StageOutcome.EXACT
    assert verdict.faults == ()
    assert verdict.unjudged == ()
    assert verdict.lines()[0].startswith("EXACT  ")


@pytest.mark.parametrize(
    ("cheat", "number", "coupling", "schedule"),
    [
        (cheat, number, coupling, schedule)
        for cheat, (_, possible) in CHEATS.items()
        for number in range(1, SEGMENTS + 1)
        for coupling, schedule in COUPLINGS
        if possible(number, SEGMENTS, coupling)
    ],
)
def test_a_cheat_is_named_and_nobody_else(
    cheat: str, number: int, coupling: Coupling, schedule: str
) -> None:
    verdict = audit(Case(coupling=coupling, schedule=schedule), {number: CHEATS[cheat][0]})
    assert verdict.outcome is StageOutcome.FAIL
    assert verdict.at_fault == (number,)
    message = verdict.faults[0].message
    if message is not None:
        assert message.stream.sender == number
        # What is only in the weights shows in the next step.
        assert message.step in (FIRST, FIRST + 1)
    sends_nothing = number == SEGMENTS and coupling == "one-way"
    assert (message is None) == sends_nothing
    assert verdict.lines()[0].startswith("FAIL  ")
    assert f"segment {number}: " in verdict.lines()[1]
    assert number not in verdict.unjudged


@pytest.mark.parametrize("number", range(1, SEGMENTS + 1))
@pytest.mark.parametrize("part", ["weights/", "training/optimizer/"])
def test_a_changed_state_is_its_segments_doing(number: int, part: str) -> None:
    case = Case()
    recorded = train(case, case.steps())
    states = [*recorded.states]
    states[number - 1] = noisy(states[number - 1], 1e-6, part)
    verdict = exact_verdict(recorded, claim_of(recorded, states))
    assert verdict.at_fault == (number,)
    assert verdict.faults[0].message is None
    assert part in verdict.faults[0].what


def test_a_segment_that_claims_its_old_weights_is_named() -> None:
    case, steps = Case(), Case().steps()
    starts = train(case, steps[:6]).states
    recorded = train(case, steps[6:], starts)
    claimed = [recorded.states[0], starts[1], recorded.states[2]]
    assert exact_verdict(recorded, claim_of(recorded, claimed)).at_fault == (2,)


def test_two_that_change_their_own_states_are_both_named() -> None:
    case = Case(coupling="one-way")
    recorded = train(case, case.steps())
    first, second, third = recorded.states
    claim = claim_of(recorded, [noisy(first, 1e-3), second, noisy(third, 1e-3)])
    assert exact_verdict(recorded, claim).at_fault == (1, 3)


def test_who_received_something_wrong_is_not_judged() -> None:
    verdict = audit(Case(coupling="one-way"), {1: SkipsUpdates, 2: SkipsUpdates, 3: SkipsUpdates})
    assert verdict.at_fault == (1,)
    assert verdict.unjudged == (2, 3)
    assert verdict.lines()[-1].endswith("1 FAIL, 2 OPEN, 3 OPEN")


@settings(max_examples=12, deadline=None)
@given(data=st.data(), coupling=st.sampled_from(COUPLINGS))
def test_at_least_one_cheat_is_named_and_no_honest_segment(
    data: st.DataObject, coupling: tuple[Coupling, str]
) -> None:
    case = Case(coupling=coupling[0], schedule=coupling[1], cuts=(1, 4, 5, 9))
    cheats = data.draw(st.sets(st.integers(1, 5), min_size=1, max_size=3))
    kinds = {}
    for number in sorted(cheats):
        able = [kind for kind, can in CHEATS.values() if can(number, 5, case.coupling)]
        kinds[number] = data.draw(st.sampled_from(able))
    # A segment without weights has no update to leave out: its cheat changes nothing.
    effective = {
        number
        for number, runtime in enumerate(case.runtimes(kinds), start=1)
        if number in cheats and (runtime.parameters or "forged" in dir(type(runtime)))
    }
    verdict = audit(case, kinds)
    assert set(verdict.at_fault) <= effective
    assert bool(verdict.at_fault) == bool(effective)


def test_messages_left_out_or_added_are_the_senders_doing() -> None:
    case = Case(coupling="one-way")
    recorded = train(case, case.steps())
    stream = Stream(1, "forward")
    claim = claim_of(recorded)
    shorter = StageClaim(
        claim.states, {**claim.digests, stream: (claim.digests[stream] or ())[:-2]}
    )
    verdict = exact_verdict(recorded, shorter)
    assert verdict.at_fault == (1,)
    assert "is missing" in verdict.faults[0].what
    longer = StageClaim(
        claim.states, {**claim.digests, stream: [*(claim.digests[stream] or ()), bytes(32)]}
    )
    verdict = exact_verdict(recorded, longer)
    assert verdict.at_fault == (1,)
    assert "1 more messages" in verdict.faults[0].what


def test_other_rows_than_those_sent_accuse_no_trainer() -> None:
    case = Case(cached=False)
    recorded = train(case, case.steps())

    class Other(Case):
        def rows(self, ids: object) -> torch.Tensor:
            return super().rows(ids) + 1e-6  # type: ignore[arg-type]

    other = Other(cached=False)
    verdict = exact_verdict(train(other, case.steps()), claim_of(recorded))
    assert verdict.outcome is StageOutcome.FAIL
    assert verdict.at_fault == (0,)
    assert verdict.unjudged == (1, 2, 3)
    assert verdict.faults[0].message is not None
    assert verdict.faults[0].message.kind is Kind.RELEASE
    assert "rows given to this audit" in verdict.lines()[1]
    sent = [message.digest for message in recorded.trace.messages_of(Stream(0, "forward"))]
    assert [*replayed_release_digests(case.plan(), case.steps(), case.rows)] == sent
    assert [*replayed_release_digests(case.plan(), case.steps(), other.rows)] != sent


def test_a_claim_with_gaps_is_refused() -> None:
    case = Case()
    recorded = train(case, case.steps()[:3])
    claim = claim_of(recorded)
    with pytest.raises(EvidenceError, match="2 states are claimed for 3 segments"):
        exact_verdict(recorded, replace(claim, states=claim.states[:2]))
    some = {s: d for s, d in claim.digests.items() if s != Stream(2, "backward")}
    with pytest.raises(EvidenceError, match="no message digests of segment 3 -> segment 2"):
        exact_verdict(recorded, replace(claim, digests=some))


def test_states_are_compared_as_bytes() -> None:
    zero, nan = {"a": torch.zeros(3)}, {"a": torch.full((2,), torch.nan)}
    assert first_verdict_difference(zero, {"a": torch.zeros(3)}) is None
    assert first_verdict_difference(nan, {"a": torch.full((2,), torch.nan)}) is None
    assert first_verdict_difference(zero, {"a": -torch.zeros(3)}) == "3 of 3 numbers of a"
    assert (
        first_verdict_difference(zero, {"a": torch.tensor([0.0, 0.0, 1.0])})
        == "1 of 3 numbers of a"
    )
    assert first_verdict_difference(zero, {"a": torch.zeros(3, dtype=torch.float64)}) is not None
    assert first_verdict_difference(zero, {"a": torch.zeros(3, 1)}) is not None
    assert first_verdict_difference(zero, {}) == "a is unknown"
    assert first_verdict_difference({}, zero) == "a is missing"
    scalar = {"step": torch.tensor(3.0)}
    assert first_verdict_difference(scalar, {"step": torch.tensor(4.0)}) == "1 of 1 numbers of step"
    assert first_verdict_difference({"a": torch.zeros(0, 4)}, {"a": torch.zeros(0, 4)}) is None


def test_an_excuse_withholds_its_own_segment_and_nobody_else() -> None:
    case = Case()
    steps = case.steps()
    starts = train(case, steps[:6]).states
    replayed = train(case, steps[6:], starts)
    claim = claim_of(train(case, steps[6:], starts, {2: SkipsUpdates}))
    stated = {2: "its trainer stated another processor"}
    verdict = exact_verdict(replayed, claim, stated)
    assert verdict.outcome is StageOutcome.OPEN
    assert verdict.at_fault == ()
    assert [one.rank for one in verdict.withheld] == [2]
    assert "another processor, and the " in verdict.withheld[0].what
    assert verdict.outcome_of(2) is StageOutcome.OPEN
    # Another one's statement excuses nothing, and equal bits need no excuse.
    assert exact_verdict(replayed, claim, {1: "it stated much"}).at_fault == (2,)
    equal = exact_verdict(replayed, claim_of(replayed), stated)
    assert (equal.outcome, equal.withheld) == (StageOutcome.EXACT, ())


def test_a_stream_that_differs_at_an_unknown_place_accuses_no_receiver() -> None:
    """Both ends spoilt their lists: the root differs, and nobody knows where."""
    case = Case(coupling="one-way")
    steps = case.steps()
    starts = train(case, steps[:6]).states
    replayed = train(case, steps[6:], starts)
    claim = claim_of(train(case, steps[6:], starts, {1: SkipsUpdates}))
    hidden = StageClaim(claim.states, {**claim.digests, Stream(1, "forward"): None})
    verdict = exact_verdict(replayed, hidden)
    assert verdict.at_fault == (1,)
    assert verdict.unjudged == (2, 3)
    assert "until the last one agrees" in verdict.faults[0].what


def test_a_state_in_no_file_is_still_known_not_to_be_the_one_that_was_signed() -> None:
    recorded = train(Case(), Case().steps())
    states = [*recorded.states[:2], None]
    verdict = exact_verdict(recorded, StageClaim(states, claim_of(recorded).digests))
    assert verdict.at_fault == (3,)
    assert "is not the one it signed" in verdict.faults[0].what
    assert [verdict.outcome_of(one) for one in (1, 2)] == [StageOutcome.EXACT] * 2

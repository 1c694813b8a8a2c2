"""A restart carries out exactly what the run had left to do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.training.events import (
    DeliveryEvent,
    Event,
    SaveEvent,
    StageEnd,
    TrainStep,
    ValidationStep,
)
from clicooper_hpc.training.learning_rate import LearningRateSchedule
from clicooper_hpc.training.run_plan import RunPlan

PLAN = RunPlan(
    seed=3,
    epochs=4,
    batch_size=4,
    average_rows=2,
    sub_labels=np.arange(21, dtype=np.int32) % 3,
    validation_rows=6,
    evaluate_every=2,
    cached=True,
    segments=2,
    micro_batches=2,
    schedule="1f1b",
    coupling="backprop",
    rates=LearningRateSchedule(0.1),
    stages=3,
)


def plain(event: Event) -> object:
    """Return the event as a value that can be compared."""
    if isinstance(event, TrainStep):
        ids = event.batch.ids.tolist()
        return ("train", event.step, event.epoch, ids, event.from_owner)
    if isinstance(event, ValidationStep):
        return ("validation", event.step, event.epoch, event.ids.tolist(), event.from_owner)
    return event


def behind(plan: RunPlan, after: int) -> list[object]:
    """Return the events of a whole run behind its first ``after`` steps and their `SaveEvent`."""
    events = list(plan.planned_events())
    last = max(
        (
            place
            for place, event in enumerate(events)
            if (isinstance(event, TrainStep) and event.step < after)
            or (isinstance(event, SaveEvent) and event.step == after)
        ),
        default=-1,
    )
    return [plain(event) for event in events[last + 1 :]]


@settings(max_examples=60, deadline=None)
@given(
    after=st.integers(0, 100),
    epochs=st.integers(1, 4),
    batch_size=st.integers(1, 9),
    stages=st.integers(0, 5),
    every=st.integers(0, 3),
    save_every=st.integers(0, 7),
    cached=st.booleans(),
)
def test_what_follows_a_checkpoint_is_what_would_have_followed(
    after: int, epochs: int, batch_size: int, stages: int, every: int, save_every: int, cached: bool
) -> None:
    plan = replace(
        PLAN,
        epochs=epochs,
        batch_size=batch_size,
        stages=stages,
        evaluate_every=every,
        save_every=save_every,
        cached=cached,
    )
    after = min(after, plan.total_steps)
    assert [plain(event) for event in plan.planned_events(after)] == behind(plan, after)


@pytest.mark.parametrize(("stages", "save_every"), [(3, 0), (0, 0), (3, 2), (0, 5)])
def test_every_stage_or_epoch_is_saved_before_it_is_proved(stages: int, save_every: int) -> None:
    plan = replace(PLAN, stages=stages, save_every=save_every)
    events = list(plan.planned_events())
    saved = [event.step for event in events if isinstance(event, SaveEvent)]
    ends = plan.stage_bounds[1:] if stages else [plan.steps_per_epoch * e for e in (1, 2, 3, 4)]
    more = range(save_every, plan.total_steps + 1, save_every) if save_every else ()
    assert saved == sorted({*ends, *more})
    for before, event in pairwise(events):
        if isinstance(event, StageEnd):
            assert before == SaveEvent(event.last)
    assert isinstance(events[-1], DeliveryEvent)


@pytest.mark.parametrize(("batch_size", "micro_batches"), [(4, 4), (4, 1), (100, 1)])
def test_resends_bring_what_the_cache_had_and_number_nothing_twice(
    batch_size: int, micro_batches: int
) -> None:
    plan = replace(PLAN, batch_size=batch_size, micro_batches=micro_batches)
    rows = batch_size // micro_batches
    for after in range(plan.total_steps + 1):
        events = list(plan.planned_events())
        done = events[: len(events) - len(list(plan.planned_events(after)))]
        had = {
            ("train", int(one))
            for event in done
            if isinstance(event, TrainStep) and event.from_owner
            for one in event.batch.ids.reshape(-1)
        } | {
            ("validation", int(one))
            for event in done
            if isinstance(event, ValidationStep)
            for one in event.ids
        }
        resends = list(plan.planned_resends(after))
        brought = [(one.split, int(sample)) for one in resends for sample in one.ids]
        assert sorted(brought) == sorted(had)
        assert all(0 < len(one.ids) <= rows for one in resends)
        numbers = [one.step for one in resends]
        others = [e.step for e in events if isinstance(e, TrainStep | ValidationStep)]
        assert not set(numbers) & set(others)
        assert len(set(numbers)) == len(numbers)


def test_nothing_is_resent_where_the_owner_sends_every_epoch() -> None:
    assert list(replace(PLAN, cached=False).planned_resends(9)) == []

"""Threads that take turns and channels in memory: one order, to an end or to an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from stage import Case, train

from clicooper_hpc.audit.cooperative_threads import CooperativeThreads
from clicooper_hpc.audit.memory_channel import MemoryChannel
from clicooper_hpc.audit.message_trace import Stream, TraceRecorder
from clicooper_hpc.audit.replay import replay_stage
from clicooper_hpc.errors import ClicooperError, RunFolderError
from clicooper_hpc.pipeline.runtime import SegmentRuntime
from clicooper_hpc.training.segment_state import export_segment_state
from clicooper_hpc.transport.message_kind import Kind

pytestmark = pytest.mark.usefixtures("one_thread")

FORWARD = Stream(1, "forward")


def channel(threads: CooperativeThreads, slots: int = 2) -> MemoryChannel:
    return MemoryChannel(FORWARD, slots=slots, threads=threads, recorder=TraceRecorder())


def test_one_body_runs_at_a_time_and_waits_are_served_in_turn() -> None:
    threads = CooperativeThreads(["a", "b", "c"])
    log: list[str] = []
    done = {"a": 0, "b": 0, "c": 0}
    running = threading.Lock()

    def body(name: str, after: str) -> Callable[[], None]:
        def run() -> None:
            for count in range(1, 50):
                wanted = count - (name == "a")
                threads.wait(lambda wanted=wanted: done[after] >= wanted, f"{after} {wanted}")  # type: ignore[misc]
                assert running.acquire(blocking=False)
                log.append(name)
                done[name] += 1
                running.release()

        return run

    threads.run([body("a", "c"), body("b", "a"), body("c", "b")])
    assert "".join(log) == "abc" * 49


def test_a_standstill_ends_with_what_each_one_waits_for() -> None:
    threads = CooperativeThreads(["segment 1", "segment 2", "segment 3"])
    before = threading.active_count()
    with pytest.raises(ClicooperError) as caught:
        threads.run(
            [
                lambda: threads.wait(lambda: False, "a gradient"),
                lambda: threads.wait(lambda: False, "an activation"),
                lambda: None,
            ]
        )
    assert "segment 1 waits for a gradient; segment 2 waits for an activation." in str(caught.value)
    assert "segment 3" not in str(caught.value)
    assert threading.active_count() == before


def test_the_exception_of_one_ends_all_and_is_what_is_raised() -> None:
    threads = CooperativeThreads(["a", "b", "c"])
    ended: list[str] = []
    problem = ValueError("the second one broke")

    def waits() -> None:
        try:
            threads.wait(lambda: False, "ever")
        finally:
            ended.append("a")

    def breaks() -> None:
        raise problem

    with pytest.raises(ValueError, match="the second one broke") as caught:
        threads.run([waits, breaks, lambda: ended.append("c")])
    assert caught.value is problem
    assert ended == ["a"]


def test_bodies_compute_with_the_callers_number_of_threads() -> None:
    torch.set_num_threads(2)
    seen: list[int] = []
    CooperativeThreads(["a"]).run([lambda: seen.append(torch.get_num_threads())])
    assert seen == [2]


def test_a_message_is_a_copy_and_comes_as_it_was_sent() -> None:
    threads = CooperativeThreads(["1", "2"])
    pipe = channel(threads)
    sent = torch.arange(12.0).reshape(3, 4).t()
    got: list[torch.Tensor] = []

    def send() -> None:
        pipe.send(sent, Kind.ACTIVATION, 7, 2)
        sent.zero_()
        assert pipe.ready()

    def receive() -> None:
        message = pipe.receive(Kind.ACTIVATION, 7, 2, dtype=torch.float32, shape=(None, 3))
        got.append(message.tensor.clone())
        assert message.tensor.data_ptr() % 64 == 0
        pipe.recycle(message)
        with pytest.raises(ValueError, match="recycled before"):
            pipe.recycle(message)

    threads.run([send, receive])
    assert torch.equal(got[0], torch.arange(12.0).reshape(3, 4).t())


@pytest.mark.parametrize(
    ("kind", "step", "micro_batch", "dtype", "shape"),
    [
        (Kind.GRADIENT, 7, 2, None, None),
        (Kind.ACTIVATION, 8, 2, None, None),
        (Kind.ACTIVATION, 7, 1, None, None),
        (Kind.ACTIVATION, 7, 2, torch.float64, None),
        (Kind.ACTIVATION, 7, 2, None, (3, 5)),
        (Kind.ACTIVATION, 7, 2, None, (3, 4, 1)),
    ],
)
def test_another_message_than_the_one_due_is_refused(
    kind: Kind,
    step: int,
    micro_batch: int,
    dtype: torch.dtype | None,
    shape: tuple[int, ...] | None,
) -> None:
    threads = CooperativeThreads(["1", "2"])
    pipe = channel(threads)
    with pytest.raises(ClicooperError, match=r"segment 1 -> segment 2: .* was due"):
        threads.run(
            [
                lambda: pipe.send(torch.zeros(3, 4), Kind.ACTIVATION, 7, 2),
                lambda: cast(
                    "None", pipe.receive(kind, step, micro_batch, dtype=dtype, shape=shape)
                ),
            ]
        )


def test_a_sender_waits_while_all_slots_are_taken() -> None:
    threads = CooperativeThreads(["1", "2"])
    pipe = channel(threads, slots=2)
    log: list[str] = []

    def send() -> None:
        for number in range(4):
            pipe.send(torch.zeros(1), Kind.ACTIVATION, 0, number)
            log.append(f"sent {number}")

    def receive() -> None:
        held = [pipe.receive(Kind.ACTIVATION, 0, number) for number in range(2)]
        log.append("held")
        for message in held:
            pipe.recycle(message)
        for number in range(2, 4):
            pipe.recycle(pipe.receive(Kind.ACTIVATION, 0, number))

    threads.run([send, receive])
    assert log == ["sent 0", "sent 1", "held", "sent 2", "sent 3"]


def test_a_full_channel_that_nobody_empties_is_a_standstill() -> None:
    threads = CooperativeThreads(["segment 1"])
    pipe = channel(threads, slots=1)

    def send() -> None:
        for number in range(2):
            pipe.send(torch.zeros(1), Kind.ACTIVATION, 0, number)

    with pytest.raises(ClicooperError, match="to take the activation of step 0, micro-batch 1"):
        threads.run([send])


def test_segments_run_no_farther_apart_than_in_the_run() -> None:
    case = Case(coupling="one-way", clip_norm=None)
    trace = train(case, case.steps()).trace
    taken: dict[Stream, int] = {}
    order = {message: place for place, message in enumerate(trace.sent)}
    assert [order[m] for m in trace.sent] == sorted(order.values())
    ahead = 0
    for message in trace.sent:
        taken[message.stream] = message.index
        if {Stream(1, "forward"), Stream(2, "forward")} <= taken.keys():
            ahead = max(ahead, taken[Stream(1, "forward")] - taken[Stream(2, "forward")])
    assert 0 < ahead <= case.plan().planned_slots()


class Silent(SegmentRuntime):
    """Never sends a gradient."""

    def _send(self, sender: Any, kind: Kind, *others: Any) -> None:
        if kind is not Kind.GRADIENT:
            super()._send(sender, kind, *others)


def test_a_replay_whose_segments_wait_for_each_other_says_so() -> None:
    case = Case()
    with pytest.raises(ClicooperError) as caught:
        train(case, case.steps(), kinds={2: Silent})
    assert "segment 1 waits for the gradient of step 0, micro-batch 0" in str(caught.value)


class Broken(SegmentRuntime):
    def _update(self, step: int, learning_rate: float, report: object) -> None:
        raise RuntimeError(f"broken in step {step}")


def test_an_exception_in_a_segment_ends_the_replay_with_it() -> None:
    case = Case(coupling="one-way")
    with pytest.raises(RuntimeError, match="broken in step 0"):
        train(case, case.steps(), kinds={3: Broken})


def test_a_state_that_does_not_fit_names_its_segment() -> None:
    case = Case()
    starts = [export_segment_state(runtime) for runtime in case.runtimes()]
    del starts[1]["weights/0.weight"]
    with pytest.raises(RunFolderError, match="state of segment 2 before the stage"):
        train(case, case.steps(), starts)
    with pytest.raises(ValueError, match="2 starts for 3 segments"):
        replay_stage(case.runtimes(), starts[:2], case.plan(), case.steps(), case.rows)

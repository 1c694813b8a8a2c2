"""A replay is the training, to the bit: plain PyTorch and itself in two halves agree."""

from __future__ import annotations

import pytest
import torch
from stage import Case, Plain, train
from torch import Tensor

from clicooper_hpc.audit.message_trace import Stream
from clicooper_hpc.audit.replay import StageReplay, replay_stage
from clicooper_hpc.audit.replayed_release import replayed_release_digests
from clicooper_hpc.runstore.safetensors_files import pack_safetensors, unpack_safetensors
from clicooper_hpc.training.message_digests import message_digest
from clicooper_hpc.training.segment_state import export_segment_state
from clicooper_hpc.transport.header import Header, pack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.wire_dtype import DType

pytestmark = pytest.mark.usefixtures("one_thread")

VGG = Case(model="vgg", options={"channels": [8, 16]}, shape=(3, 8, 8), cuts=(3, 6))
CASES = {
    "1f1b": Case(),
    "gpipe": Case(schedule="gpipe"),
    "one-way": Case(coupling="one-way"),
    "adamw": Case(optimizer="adamw", schedule="gpipe"),
    "one-way adamw": Case(optimizer="adamw", coupling="one-way"),
    "no clipping": Case(clip_norm=None),
    "one-way, no clipping": Case(coupling="one-way", clip_norm=None),
    "averaged rows": Case(average_rows=3),
    "one segment": Case(cuts=()),
    "five segments": Case(cuts=(1, 4, 5, 9)),
    "five segments one-way": Case(cuts=(1, 4, 5, 9), coupling="one-way"),
    "convnet": VGG,
}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return pack_safetensors(first, {}) == pack_safetensors(second, {})


def replay(case: Case) -> StageReplay:
    return train(case, case.steps())


@pytest.mark.parametrize("name", CASES)
def test_a_replay_is_plain_training_to_the_bit(name: str) -> None:
    case = CASES[name]
    result = replay(case)
    plain = Plain(case)
    plain.train(case.steps())
    assert list(result.losses[-1]) == plain.losses
    for state, (layers, head, _), optimizer, parameters in zip(
        result.states, plain.parts, plain.optimizers, plain.parameters, strict=True
    ):
        wanted = {f"weights/{k}": v for k, v in layers.state_dict().items()}
        if head is not None:
            wanted |= {f"training/head/{k}": v for k, v in head.state_dict().items()}
        for index, parameter in enumerate(parameters):
            assert optimizer is not None
            for key, value in optimizer.state[parameter].items():
                wanted[f"training/optimizer/{index:04d}/{key}"] = value
        assert same(state, wanted)
    moments = sum("optimizer" in name for state in result.states for name in state)
    assert moments > 0


@pytest.mark.parametrize("name", CASES)
def test_two_stages_with_a_checkpoint_between_are_one(name: str) -> None:
    case = CASES[name]
    whole = replay(case)
    steps = case.steps()
    first = train(case, steps[:7])
    kept = [pack_safetensors(state, {}) for state in first.states]
    second = train(case, steps[7:], [unpack_safetensors(content, where="here") for content in kept])
    for mine, theirs in zip(second.states, whole.states, strict=True):
        assert same(mine, theirs)
    streams = {message.stream for message in whole.trace.sent}
    for stream in streams:
        halves = [*first.trace.messages_of(stream), *second.trace.messages_of(stream)]
        assert [m.digest for m in halves] == [m.digest for m in whole.trace.messages_of(stream)]


@pytest.mark.parametrize("name", ["1f1b", "one-way", "five segments"])
def test_a_replay_does_the_same_in_the_same_order_every_time(name: str) -> None:
    first, second = replay(CASES[name]), replay(CASES[name])
    assert first.trace == second.trace


def test_every_message_of_a_step_is_there_once() -> None:
    case = Case()
    trace = replay(case).trace
    steps, batches = case.steps(), 5
    per_step = [len(case.plan().planned_micro_batches(len(e.batch.sub_labels))) for e in steps]
    assert max(per_step) == batches
    assert min(per_step) < batches  # the short last batch
    forward = trace.messages_of(Stream(1, "forward"))
    wanted = [
        (Kind.ACTIVATION, e.step, m) for e, n in zip(steps, per_step, strict=True) for m in range(n)
    ]
    assert [(m.kind, m.step, m.micro_batch) for m in forward if m.kind is not Kind.NORM] == wanted
    assert sum(m.kind is Kind.NORM for m in forward) == len(steps)
    assert {str(m.stream) for m in trace.sent} == {
        "owner -> segment 1",
        "segment 1 -> segment 2",
        "segment 2 -> segment 3",
        "segment 3 -> segment 2",
        "segment 2 -> segment 1",
    }


def test_the_owners_messages_are_recorded_where_there_were_some() -> None:
    for cached, wanted in ((True, 1), (False, 3)):
        case = Case(cached=cached, average_rows=3)
        plan, steps = case.plan(), case.steps()
        releases = replay(case).trace.messages_of(Stream(0, "forward"))
        assert {m.step // plan.steps_per_epoch for m in releases} == set(range(wanted))
        assert tuple(m.digest for m in releases) == replayed_release_digests(plan, steps, case.rows)
    event, part = steps[0], plan.planned_micro_batches(len(steps[0].batch.sub_labels))[0]
    raw = case.rows(event.batch.ids[: part.stop].reshape(-1))
    header = Header(Kind.RELEASE, DType.FLOAT32, tuple(raw.shape), 0, 0)
    assert releases[0].digest == message_digest(pack_header(header) + raw.numpy().tobytes())


def test_after_update_is_part_of_the_replay() -> None:
    """What follows an update, such as a mark, is in the next message and in the end state."""
    case = Case()
    seen: list[int] = []

    def embed(step: int) -> None:
        seen.append(step)
        with torch.no_grad():
            runtimes[1].parameters[0].mul_(1.001)

    runtimes = case.runtimes()
    runtimes[1].after_update = embed
    starts = [export_segment_state(runtime) for runtime in runtimes]
    marked = replay_stage(runtimes, starts, case.plan(), case.steps(), case.rows)
    plain = replay(case)
    assert seen == [event.step for event in case.steps()]
    assert not same(marked.states[1], plain.states[1])
    forward = Stream(2, "forward")
    pairs = zip(marked.trace.messages_of(forward), plain.trace.messages_of(forward), strict=True)
    changed = next(mine for mine, theirs in pairs if mine.digest != theirs.digest)
    assert changed.step == 1


def test_neither_the_generator_nor_a_replay_before_matters() -> None:
    case = Case()
    torch.manual_seed(1)
    first = replay(case)
    torch.manual_seed(2)
    second = replay(case)
    assert all(same(a, b) for a, b in zip(first.states, second.states, strict=True))


def test_the_states_a_replay_begins_with_stay_as_they_are() -> None:
    case, steps = Case(), Case().steps()
    middle = train(case, steps[:7]).states
    before = [pack_safetensors(state, {}) for state in middle]
    train(case, steps[7:], middle)
    assert [pack_safetensors(state, {}) for state in middle] == before

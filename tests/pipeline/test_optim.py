"""Updates are those of torch's own optimizers, to the bit, across restarts too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.pipeline.optim import SegmentOptimizer, build_optimizer

SETTINGS: list[dict[str, Any]] = [
    {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4},
    {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
    {"name": "adamw", "momentum": 0.9, "weight_decay": 0.3},
    {"name": "adamw", "momentum": 0.0, "weight_decay": 0.0},
]
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)
RATES = (0.1, 0.03, 0.2, 0.0, 0.05)


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (4,), (2, 4), (5,))]


def gradients(step: int) -> list[Tensor | None]:
    """Of step 1 and later; the last parameter has one in some steps only."""
    generator = torch.Generator().manual_seed(step)
    found: list[Tensor | None] = [
        torch.randn(value.shape, generator=generator) for value in parameters()
    ]
    if step in (1, 4):
        found[3] = None
    return found


def ours(values: Sequence[nn.Parameter], setting: dict[str, Any]) -> SegmentOptimizer:
    made = build_optimizer(values, betas=(0.8, 0.99), **setting)
    assert made is not None
    return made


def theirs(values: Sequence[nn.Parameter], setting: dict[str, Any]) -> torch.optim.Optimizer:
    if setting["name"] == "adamw":
        return torch.optim.AdamW(values, betas=(0.8, 0.99), weight_decay=setting["weight_decay"])
    return torch.optim.SGD(
        values, momentum=setting["momentum"], weight_decay=setting["weight_decay"]
    )


def give(values: Sequence[nn.Parameter], step: int) -> None:
    for value, gradient in zip(values, gradients(step), strict=True):
        value.grad = gradient


@each_setting
def test_every_update_and_its_state_are_torchs(setting: dict[str, Any]) -> None:
    mine, reference = parameters(), parameters()
    optimizer, expected = ours(mine, setting), theirs(reference, setting)
    for step, rate in enumerate(RATES, start=1):
        optimizer.clear_gradients()
        give(mine, step)
        give(reference, step)
        expected.param_groups[0]["lr"] = rate
        optimizer.update_parameters(rate)
        expected.step()
        assert all(map(torch.equal, mine, reference)), step
        for entry, value in zip(optimizer.state, reference, strict=True):
            stored = {k: v for k, v in expected.state.get(value, {}).items() if v is not None}
            assert entry.keys() == stored.keys()
            assert all(torch.equal(entry[key], stored[key]) for key in stored)
            # What a checkpoint must hold once there was an update.
            assert not entry or entry.keys() == optimizer.tensor_names()


@each_setting
def test_a_restored_optimizer_goes_on_as_if_nothing_had_been(setting: dict[str, Any]) -> None:
    whole, first = parameters(), parameters()
    for step, rate in enumerate(RATES, start=1):
        if step == 1:
            straight, early = ours(whole, setting), ours(first, setting)
        give(whole, step)
        straight.update_parameters(rate)
        if step == 3:
            stored = {number: dict(entry) for number, entry in enumerate(early.state)}
            first = [nn.Parameter(value.detach().clone()) for value in first]
            early = ours(first, setting)
            early.restore_state(stored)
            # Copies: an update must not reach into what was read from a file.
            before = {(n, k): v.clone() for n, entry in stored.items() for k, v in entry.items()}
        give(first, step)
        early.update_parameters(rate)
    assert all(map(torch.equal, whole, first))
    assert all(torch.equal(stored[n][k], value) for (n, k), value in before.items())


@each_setting
@pytest.mark.parametrize("lie", ["missing", "unknown"])
def test_a_state_of_another_optimizer_is_refused(setting: dict[str, Any], lie: str) -> None:
    values = parameters()
    optimizer = ours(values, setting)
    give(values, 2)
    optimizer.update_parameters(0.1)
    state = {number: dict(entry) for number, entry in enumerate(optimizer.state)}
    if lie == "unknown":
        state[0]["max_exp_avg_sq"] = torch.zeros(4, 3)
        wrong = "max_exp_avg_sq"
    elif state[0]:
        wrong = sorted(state[0])[0]
        state[0] = {k: v for k, v in state[0].items() if k != wrong} or {"": torch.zeros(1)}
    else:
        return  # without momentum there is nothing to miss
    with pytest.raises(KeyError, match="max_exp_avg_sq" if lie == "unknown" else wrong):
        optimizer.restore_state(state)


def test_without_parameters_there_is_none() -> None:
    assert build_optimizer([], name="sgd", momentum=0.9, weight_decay=0.0, betas=(0.9, 0.9)) is None


def test_clearing_leaves_no_gradient() -> None:
    values = parameters()
    optimizer = ours(values, SETTINGS[0])
    give(values, 2)
    optimizer.clear_gradients()
    before = [value.detach().clone() for value in values]
    optimizer.update_parameters(0.1)
    assert all(map(torch.equal, values, before))

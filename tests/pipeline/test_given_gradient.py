"""A backward pass from a received gradient is torch's own, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.pipeline.given_gradient import backward_from_gradient


def network(*, half: bool) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4))
    rows = torch.randn(3, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        output = layers(rows)
    return layers, rows, output


@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_those_of_backward(half: bool) -> None:
    found = []
    for ours in (True, False):
        layers, rows, output = network(half=half)
        gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).to(output.dtype)
        if ours:
            backward_from_gradient(output, gradient)
        else:
            output.backward(gradient)  # type: ignore[no-untyped-call]
        found.append([rows.grad, *(parameter.grad for parameter in layers.parameters())])
    for mine, theirs in zip(*found, strict=True):
        assert mine is not None
        assert theirs is not None
        assert torch.equal(mine, theirs)
        assert mine.abs().max() > 0


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(3, 4, dtype=torch.bfloat16)])
def test_a_gradient_of_another_kind_is_refused(wrong: Tensor) -> None:
    _, rows, output = network(half=False)
    with pytest.raises(ValueError, match="for an output"):
        backward_from_gradient(output, wrong)
    assert rows.grad is None

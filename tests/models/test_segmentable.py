"""Networks that cannot be cut, or not fed in micro-batches, are refused with a remedy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.segmentable import check_row_independence, check_segmentable


class Skipping(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


def tied() -> nn.Sequential:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.ReLU(), second)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "layer 1 .*BatchNorm2d.*GroupNorm"),
        (nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))), "at '1'.*GroupNorm"),
        (nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2)), "SyncBatchNorm"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, track_running_stats=True)),
            "InstanceNorm2d",
        ),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True)), "layer 1 .*inplace=False"),
        (nn.Sequential(nn.LazyLinear(3)), "no shape yet"),
        (nn.Sequential(nn.ReLU()), "no parameters"),
        (Skipping(nn.Linear(2, 2)), "Skipping with a forward of its own"),
        (nn.Linear(2, 2), "is a Linear"),
        (tied(), "layer 2 .*shares parameter 'weight' with layer 0"),
    ],
)
def test_refused(model: nn.Sequential, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        check_segmentable(model)


def test_accepted() -> None:
    relu = nn.ReLU()  # a layer without parameters may appear twice
    check_segmentable(
        nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4), relu, nn.GroupNorm(2, 4), relu, nn.Flatten()
        )
    )


def test_trying_rows_changes_nothing_in_the_model() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=0.5), nn.Dropout(0.5))
    model[2].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    with pytest.raises(UsageError, match=r"layer 1 \(BatchNorm1d\) .*mixes the rows"):
        check_row_independence(model, (4,))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)

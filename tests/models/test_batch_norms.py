"""Batch normalisation of others' networks: refused, or made group normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.models.batch_norms import replace_batch_norms


class NormThenActivate(nn.BatchNorm2d):
    """As timm has it: drops and activates too."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()


class NormAndMore(nn.BatchNorm2d):
    pass


def test_every_batch_norm_becomes_a_group_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Sequential(nn.BatchNorm2d(16), nn.ReLU()))
    model.append(NormThenActivate(16))
    replace_batch_norms(model, "group-norm", "here")
    kinds = [type(module) for module in model.modules()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.GroupNorm) == 2
    assert nn.SiLU in kinds
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 16, 4, 4)


def test_without_the_choice_nothing_changes() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4))
    assert type(replace_batch_norms(model, "refuse", "here")[0]) is nn.BatchNorm1d  # type: ignore[index]


def test_a_norm_that_does_more_is_refused() -> None:
    with pytest.raises(UsageError, match="here, 0: a NormAndMore does more"):
        replace_batch_norms(nn.Sequential(NormAndMore(4)), "group-norm", "here")

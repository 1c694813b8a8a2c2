"""Seeds of random layers: a function of four numbers and of nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from clicooper_hpc.models.layer_randomness import (
    has_layer_randomness,
    layer_random_seed,
    seed_layer_randomness,
)
from clicooper_hpc.models.vit import EncoderBlock

CPU = torch.device("cpu")
word = st.integers(0, 2**64 - 1)


def mask(seed: int, step: int, micro_batch: int, layer: int) -> Tensor:
    seed_layer_randomness(seed, step, micro_batch, layer, CPU)
    return nn.functional.dropout(torch.ones(64), 0.5)


def test_the_mask_depends_on_the_four_numbers_alone() -> None:
    first = mask(1, 2, 3, 4)
    torch.rand(5)
    assert torch.equal(mask(1, 2, 3, 4), first)
    for others in [(0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0), (4, 3, 2, 1)]:
        assert not torch.equal(mask(*others), first)


def test_seeds_never_change_between_versions() -> None:
    """Golden values: a resumed or audited run must draw the masks of the original."""
    assert layer_random_seed(0, 0, 0, 0) == 3582177055694119410
    assert layer_random_seed(1, 2, 3, 4) == 3787620979299609519


@given(word, word, word, word)
def test_seeds_fit_every_generator(seed: int, step: int, micro_batch: int, layer: int) -> None:
    value = layer_random_seed(seed, step, micro_batch, layer)
    assert 0 <= value < 2**63
    seed_layer_randomness(seed, step, micro_batch, layer, CPU)
    assert torch.initial_seed() == value


@pytest.mark.parametrize("numbers", [(-1, 0, 0, 0), (0, 2**64, 0, 0)])
def test_numbers_out_of_range(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        layer_random_seed(*numbers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_seeded_too() -> None:
    seed_layer_randomness(1, 2, 3, 4, "cuda:0")
    first = torch.rand(8, device="cuda:0")
    seed_layer_randomness(1, 2, 3, 4, "cuda:0")
    assert torch.equal(torch.rand(8, device="cuda:0"), first)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(2, 2), False),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3), nn.ReLU()), False),
        (EncoderBlock(8, 2, 16, dropout=0.0), False),
        (EncoderBlock(8, 2, 16, dropout=0.1), True),
        (nn.Dropout(0.5), True),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.AlphaDropout(0.1))), True),
        (nn.RReLU(), True),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), True),
        (nn.MultiheadAttention(4, 2), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.TransformerEncoderLayer(4, 2, 8), True),
        (Unknown(), True),
        (nn.Sequential(Unknown()), True),
    ],
)
def test_layers_that_may_draw_random_numbers(layer: nn.Module, expected: bool) -> None:
    assert has_layer_randomness(layer) is expected

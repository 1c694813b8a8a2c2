"""A front as layers of torch computes what the front computes, to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from front_cases import LAYERS, SHAPE, random_rows, tensors

from clicooper_hpc.config.read_out import parse_read_out
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.front import assemble_front
from clicooper_hpc.fronts.front_layers import FrontLayers
from clicooper_hpc.fronts.layer_spec import parse_layers
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Clamp, Linear, Operation, Resize, Scale, Scores
from clicooper_hpc.fronts.origin import FrontOrigin

LAYER_LIST = parse_layers(LAYERS, where="test")
WEIGHTS = {name: one for name, one in tensors().items() if "num_batches" not in name}


def network(*read_outs: str, mirror: bool = False) -> Network:
    return Network(
        LAYER_LIST,
        SHAPE,
        (0.4, 0.6),
        (0.25, 0.5),
        WEIGHTS,
        read_outs=tuple(map(parse_read_out, read_outs)),
        mirror=mirror,
    )


def linear(width: int, outputs: int) -> Linear:
    rng = np.random.default_rng(1)
    offset, matrix = rng.normal(size=width), rng.normal(size=(width, outputs))
    return Linear(torch.from_numpy(offset), torch.from_numpy(matrix))


def scores(width: int, classes: int) -> Scores:
    made = linear(width, classes)
    return Scores(made.offset, made.matrix, torch.linspace(-1, 1, classes, dtype=torch.float64))


CHAINS: dict[str, Sequence[Operation]] = {
    "network": [network(), Scale(0.5)],
    "read-outs, mirror": [network("3:rms", "6:2x2", mirror=True), scores(6 + 32, 4)],
    "clamp, resize": [Clamp(flatten=False), Resize(5), linear(50, 7), Scale(2.0)],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_every_bit_is_the_front_s(chain: str) -> None:
    front = assemble_front(SHAPE, CHAINS[chain], FrontOrigin("identity", "test"), block_rows=16)
    layers = FrontLayers(front)
    assert not any(one.requires_grad for one in layers.parameters())
    for count in (0, 1, 16, 37):
        rows = random_rows(count, seed=count)
        assert layers(torch.from_numpy(rows)).numpy().tobytes() == front.apply(rows).tobytes()


def test_its_constants_are_saved_and_the_front_s_own_are_left_alone() -> None:
    front = assemble_front(SHAPE, [network(), linear(5, 3)], FrontOrigin("identity", "test"))
    layers = FrontLayers(front)
    state = layers.state_dict()
    assert {"operations.1.offset", "operations.1.matrix"} < set(state)
    before = front.apply(random_rows(3))
    with torch.no_grad():
        for tensor in state.values():
            tensor.zero_()
    assert not layers(torch.from_numpy(random_rows(3))).any()
    assert front.apply(random_rows(3)).tobytes() == before.tobytes()


def test_a_number_that_is_not_finite_is_refused() -> None:
    front = assemble_front(SHAPE, [Scale(1.0)], FrontOrigin("identity", "test"))
    with pytest.raises(DataError, match="not finite"):
        FrontLayers(front)(torch.full((1, *SHAPE), float("nan")))

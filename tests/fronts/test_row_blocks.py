"""A row's bits depend on that row alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from front_cases import SHAPE, description, random_rows, write
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_operation import PlainOperation

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.front import Front, assemble_front
from clicooper_hpc.fronts.operations import Linear, Operation, Scale
from clicooper_hpc.fronts.origin import FrontOrigin
from clicooper_hpc.fronts.projection import Projection, fit_projection
from clicooper_hpc.fronts.row_blocks import is_row_independent
from clicooper_hpc.fronts.weights import load_weights

COUNT = 150


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Front]:
    """One front of every make, at a block size that does not divide the number of rows."""
    path = write(tmp_path_factory.mktemp("front") / "net.safetensors", description())
    network = load_weights(path, None).network
    features = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path)).apply(
        random_rows(90)
    )
    linear = fit_projection(features, None, Projection("pca", 3))
    made: dict[str, tuple[Operation, ...]] = {"projected": (network, linear, Scale(1.5))}
    plain = FrontOrigin("random", "test")
    return {
        "projected": assemble_front(SHAPE, made["projected"], plain, block_rows=64),
        "maps": build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path, cut=3)),
        "dct": build_front(
            FrontBase(kind="dct", input_shape=SHAPE, dim=20), normalise=1.0, block_rows=7
        ),
        "random": build_front(FrontBase(kind="random", input_shape=SHAPE, dim=20), normalise=1.0),
        "identity": build_front(FrontBase(kind="identity", input_shape=SHAPE)),
        "one by one": build_front(
            FrontBase(kind="weights", input_shape=SHAPE, weights=path), block_rows=1
        ),
    }


KINDS = ["projected", "maps", "dct", "random", "identity", "one by one"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(ids=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=100))
def test_any_subset_order_or_repetition_gives_the_same_bits(
    fronts: dict[str, Front], kind: str, ids: list[int]
) -> None:
    front, x = fronts[kind], random_rows(COUNT)
    whole = front.apply(x)
    assert whole.shape == (COUNT, *front.output_shape)
    assert front.apply(x[ids]).tobytes() == whole[ids].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_batch_mates_of_any_size_leave_a_row_alone(fronts: dict[str, Front], kind: str) -> None:
    front, x = fronts[kind], random_rows(64)
    among = x.copy()
    among[1:] *= np.float32(1e6)
    assert front.apply(among)[0].tobytes() == front.apply(x[:1])[0].tobytes()


def test_no_rows_give_no_rows(fronts: dict[str, Front]) -> None:
    assert fronts["dct"].apply(random_rows(0)).shape == (0, 20)


def test_zero_rows_stay_zero_and_others_get_the_clip_norm(fronts: dict[str, Front]) -> None:
    front = assemble_front((4,), (Scale(1.5),), FrontOrigin("identity", "test"))
    x = random_rows(5, (4,))
    x[2] = 0
    norms = np.linalg.norm(front.apply(x).astype(np.float64), axis=1)
    assert norms[2] == 0
    assert np.allclose(np.delete(norms, 2), 1.5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scaling_survives_tiny_and_huge_rows(scale: float) -> None:
    front = assemble_front((3,), (Scale(1.0),), FrontOrigin("identity", "test"))
    out = front.apply(np.full((1, 3), scale, dtype=np.float32))
    assert np.allclose(out, 3**-0.5)


def test_a_function_that_mixes_rows_is_found_out() -> None:
    probe = torch.from_numpy(random_rows(8, (5,)))
    assert is_row_independent(lambda x: x * 2, probe)
    assert not is_row_independent(lambda x: x - x.mean(0), probe)
    position = torch.arange(8.0)[:, None] * 1e-6
    assert not is_row_independent(lambda x: x + position, probe)


class PlaceDependent(PlainOperation):
    """An operation whose last bits depend on a row's place, as a kernel's might."""

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(len(x), dtype=torch.float32)[:, None]
        return x + place * 1e-7


def test_a_machine_whose_kernels_depend_on_place_gets_one_row_a_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        front = assemble_front((4,), (PlaceDependent(),), FrontOrigin("identity", "test"))
    assert front.block_rows == 1
    assert "one row a call" in caplog.text
    x = random_rows(10, (4,))
    assert np.array_equal(front.apply(x)[::-1], front.apply(x[::-1].copy()))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (random_rows(2, (3, 8, 8)), "takes float32"),
        (random_rows(2).astype(np.float64), "float64"),
        (np.full((1, *SHAPE), np.nan, dtype=np.float32), "not finite"),
    ],
)
def test_wrong_rows_are_refused(fronts: dict[str, Front], x: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        fronts["dct"].apply(x)


def test_an_overflow_is_an_error_and_never_a_row() -> None:
    big = Linear(torch.zeros(4, dtype=torch.float64), torch.full((4, 2), 1e40, dtype=torch.float64))
    with pytest.raises(DataError, match="gave a number that is not finite"):
        assemble_front((4,), (big,), FrontOrigin("random", "test"))


def test_the_probe_tells_machines_apart_only_by_their_bits(fronts: dict[str, Front]) -> None:
    again = build_front(
        FrontBase(kind="dct", input_shape=SHAPE, dim=20), normalise=1.0, block_rows=7
    )
    other = build_front(
        FrontBase(kind="dct", input_shape=SHAPE, dim=19), normalise=1.0, block_rows=7
    )
    assert again.probe == fronts["dct"].probe != other.probe

"""The front as a value: digests, storing and restoring, and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import SHAPE, description, random_rows, tensors, write

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import FRONT_KINDS, FrontBase, ProjectionData, build_front
from clicooper_hpc.fronts.front import Front, restore_front
from clicooper_hpc.fronts.projection import Projection, PublicRows


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """Weights, PCA on public rows, one norm: every kind of operation but the clamp."""
    return build_front(
        FrontBase(
            kind="weights",
            input_shape=SHAPE,
            weights=write(tmp_path / "net.safetensors", description()),
        ),
        projection=ProjectionData(
            Projection("pca", 3),
            PublicRows(random_rows(80), None, digest_bytes("t", b"a"), "public"),
            private_fingerprint=digest_bytes("t", b"b"),
        ),
        normalise=1.0,
    )


def test_a_stored_front_is_restored_to_the_bit_without_its_file(
    front: Front, tmp_path: Path
) -> None:
    settings, stored = front.front_settings(), front.front_tensors()
    (tmp_path / "net.safetensors").unlink()
    again = restore_front(settings, stored)
    assert again == front
    x = random_rows(20, seed=4)
    assert again.apply(x).tobytes() == front.apply(x).tobytes()


def test_private_tensors_hold_every_constant(front: Front) -> None:
    stored = front.front_tensors()
    weights = {name for name in tensors() if not name.endswith("num_batches_tracked")}
    assert set(stored) == {f"0.{name}" for name in weights} | {"1.offset", "1.matrix"}


def test_one_changed_bit_is_another_front(front: Front) -> None:
    for name in front.front_tensors():
        stored = {key: tensor.clone() for key, tensor in front.front_tensors().items()}
        flat = stored[name].reshape(-1)
        flat[0] = torch.nextafter(flat[0], flat[0] + 1)
        with pytest.raises(DataError, match="not the ones that were stored"):
            restore_front(front.front_settings(), stored)


@pytest.mark.parametrize(
    "change",
    [
        {"stages": None},
        {"stages": [{"stage": "exec"}]},
        {"stages": [{"stage": "network", "layers": [{"type": "Lambda"}]}]},
        {"provenance": {"kind": "random"}},
        {"digest": "00"},
        {"input_shape": [4]},
    ],
)
def test_damaged_settings_are_refused(front: Front, change: dict[str, object]) -> None:
    content = {**json.loads(front.front_settings()), **change}
    with pytest.raises(DataError):
        restore_front(json.dumps(content), front.front_tensors())


def test_settings_that_are_no_json_and_missing_tensors_are_refused(front: Front) -> None:
    with pytest.raises(DataError, match="stored front"):
        restore_front("{", front.front_tensors())
    stored = front.front_tensors()
    del stored["1.matrix"]
    with pytest.raises(DataError, match="stored front"):
        restore_front(front.front_settings(), stored)


def test_a_repr_shows_no_weight(front: Front) -> None:
    text = repr(front) + repr(front.operations)
    numbers = {
        f"{float(value):.4f}"[:6]
        for tensor in front.front_tensors().values()
        for value in tensor.flatten()[:20]
        if abs(float(value)) not in {0.0, 1.0, 0.5}
    }
    assert "tensor(" not in text
    assert not any(number in text for number in numbers)
    assert "weights=" not in repr(front.operations[0])


def test_the_digest_covers_weights_settings_and_input(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", description())
    other = write(tmp_path / "b.safetensors", description(mean=[0.4, 0.61]))

    def digest(weights: Path, cut: int | None = None, **more: float) -> str:
        base = FrontBase(kind="weights", input_shape=SHAPE, weights=weights, cut=cut)
        return build_front(base, **more).digest.hex  # type: ignore[arg-type]

    same = digest(path)
    assert digest(path, block_rows=3) == same  # the block size is the machine's affair
    assert len({same, digest(other), digest(path, cut=3), digest(path, normalise=1.0)}) == 4


def test_building_does_not_disturb_numpys_or_torchs_random_streams() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    want = torch.rand(2), np.random.random(2)  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    build_front(FrontBase(kind="random", input_shape=(3, 16, 16), dim=4))
    assert torch.equal(torch.rand(2), want[0])
    assert np.array_equal(np.random.random(2), want[1])  # noqa: NPY002


def test_what_is_missing_or_impossible_is_named() -> None:
    with pytest.raises(UsageError, match=r"front\.weights"):
        build_front(FrontBase(kind="weights", input_shape=SHAPE))
    with pytest.raises(UsageError, match=r"'scattering' is not one of"):
        build_front(FrontBase(kind="scattering", input_shape=SHAPE))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"front\.normalise"):
        build_front(FrontBase(kind="identity", input_shape=SHAPE), normalise=0.0)
    assert set(FRONT_KINDS) == {"identity", "weights", "run", "random", "dct", "dp-sgd"}

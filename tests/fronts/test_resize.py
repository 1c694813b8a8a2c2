"""Images scaled before the network: where the places lie, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import SHAPE, description, random_rows, write

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.front import assemble_front, restore_front
from clicooper_hpc.fronts.operations import Resize
from clicooper_hpc.fronts.origin import FrontOrigin


def resized(x: np.ndarray, side: int) -> np.ndarray:
    return Resize(side).apply(torch.from_numpy(x)).numpy()


def test_twice_the_pixels_lie_at_quarters_between_the_centres() -> None:
    x = np.tile(np.array([0.0, 1.0, 3.0], dtype=np.float32), (3, 1))[np.newaxis, np.newaxis]
    y = resized(x, 6)
    # Half-pixel centres: -1/4, 1/4, 3/4, ... pixels from the first centre; the edge repeats.
    assert np.allclose(y[0, 0], [0, 0.25, 0.75, 1.5, 2.5, 3], atol=1e-6)


def test_smaller_images_are_means_of_what_they_cover() -> None:
    x = random_rows(4)
    assert np.array_equal(resized(x, 8), x)
    # Every pixel counts: a stride that skipped some would see the fields of one colour alone.
    checkerboard = (np.indices((8, 8)).sum(axis=0) % 2).astype(np.float32)[np.newaxis, np.newaxis]
    assert np.allclose(resized(checkerboard, 2), 0.5, atol=0.01)


def test_a_front_takes_images_of_another_size_than_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "net.safetensors", description())
    fronts = {
        side: build_front(
            FrontBase(kind="weights", input_shape=SHAPE, weights=path, cut=3, resize=side)
        )
        for side in (8, 12)
    }
    assert fronts[12].output_shape == (6, 12, 12)
    assert "images of 12 pixels a side" in fronts[12].origin.text
    x = random_rows(80)
    plain = build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path, cut=3))
    assert np.array_equal(fronts[8].apply(x), plain.apply(x))
    wide = build_front(
        FrontBase(kind="weights", input_shape=(2, 12, 12), weights=path, cut=3, resize=12)
    )
    assert np.allclose(fronts[12].apply(x), wide.apply(resized(x, 12)), atol=1e-5)
    again = restore_front(fronts[12].front_settings(), fronts[12].front_tensors())
    assert again == fronts[12]
    assert again.apply(x[:3]).tobytes() == fronts[12].apply(x)[:3].tobytes()


def test_a_network_that_cannot_take_the_size_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "net.safetensors", description())
    with pytest.raises(DataError, match=r"layer 4 \(Conv2d\) cannot take rows of shape \(6, 2, 2"):
        build_front(FrontBase(kind="weights", input_shape=SHAPE, weights=path, resize=4))
    with pytest.raises(DataError, match="no images to resize"):
        build_front(FrontBase(kind="weights", input_shape=(128,), weights=path, resize=8))


@pytest.mark.parametrize("side", [0, -1, 1025, 8.0, True, None, "8"])
def test_a_stored_size_that_is_none_is_damage(side: object) -> None:
    front = assemble_front(SHAPE, (Resize(4),), FrontOrigin("identity", "test"))
    content = json.loads(front.front_settings())
    content["stages"][0]["side"] = side
    with pytest.raises(DataError, match="damaged"):
        restore_front(json.dumps(content), {})


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "dct"\ndim = 4\nresize = 8', "resize needs front.kind"),
        ('kind = "weights"\nweights = "net"\nresize = 0', "front.resize"),
        ('kind = "weights"\nweights = "net"\nresize = 1025', "front.resize"),
    ],
)
def test_a_job_with_an_impossible_size_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(f'[data]\npath = "digits"\n[front]\n{lines}\n')
    with pytest.raises(UsageError, match=re.escape(message)):
        load_job(path)

"""The figure of an inversion is written, with one line of pictures for each variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.figures import draw_figures, draw_reconstruction_figure
from clicooper_hpc.runstore.attack_record import ArrayKey, AttackRecord


@pytest.mark.parametrize("channels", [1, 3])
def test_a_figure_grows_with_its_variants(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    arrays = {
        "originals": random.random((16, channels, 8, 8), dtype=np.float32),
        "mean image": random.random((1, channels, 8, 8), dtype=np.float32),
        "noise-aware, same": random.random((16, channels, 8, 8), dtype=np.float32),
    }
    draw_reconstruction_figure(arrays, tmp_path / "one.png", title="one variant")
    draw_reconstruction_figure(
        {**arrays, "rMLE": arrays["originals"]}, tmp_path / "two.png", title="two variants"
    )
    with image.open(tmp_path / "one.png") as one, image.open(tmp_path / "two.png") as two:
        assert two.width == one.width
        assert two.height > one.height
        assert np.asarray(one.convert("L")).std() > 10


def test_a_figure_for_each_inversion_of_the_first_seed(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    arrays: dict[ArrayKey, NDArray[np.generic]] = {
        ("decoder", "trainer 1", seed, name): pictures
        for seed in (0, 1)
        for name in ("originals", "noise-aware")
    }
    arrays["membership", "outsider", 0, "roc"] = np.zeros((2, 5))
    paths = draw_figures(AttackRecord({}, [], arrays), tmp_path)
    assert [path.name for path in paths] == ["decoder-trainer-1.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["decoder-trainer-1.png"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")

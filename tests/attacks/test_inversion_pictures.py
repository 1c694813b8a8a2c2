"""The figure of an inversion is written, with one line of pictures for each variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clicooper_hpc.attacks.pictures import save_pictures


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
    save_pictures(arrays, tmp_path / "one.png", title="one variant")
    save_pictures(
        {**arrays, "rMLE": arrays["originals"]}, tmp_path / "two.png", title="two variants"
    )
    with image.open(tmp_path / "one.png") as one, image.open(tmp_path / "two.png") as two:
        assert two.width == one.width
        assert two.height > one.height
        assert np.asarray(one.convert("L")).std() > 10

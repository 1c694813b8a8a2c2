"""Read-outs: what a front takes from inside its network, and of mirrored images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from front_cases import LAYERS, SHAPE, description, random_rows, tensors, write

from clicooper_hpc.config.load_job import load_job
from clicooper_hpc.config.read_out import parse_read_out
from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.front import Front, restore_front
from clicooper_hpc.fronts.layer_spec import build_layers, parse_layers


def front_of(path: Path, *texts: str, mirror: bool = False, cut: int | None = None) -> Front:
    write(path, description())
    return build_front(
        FrontBase(
            kind="weights",
            input_shape=SHAPE,
            weights=path,
            cut=cut,
            read_outs=tuple(parse_read_out(text) for text in texts),
            mirror=mirror,
        )
    )


def outputs(x: np.ndarray) -> list[np.ndarray]:
    """The output behind each layer, by torch alone."""
    network = build_layers(parse_layers(LAYERS, where="test"))
    network.load_state_dict(tensors())
    mean = torch.tensor([0.4, 0.6]).reshape(1, 2, 1, 1)
    std = torch.tensor([0.25, 0.5]).reshape(1, 2, 1, 1)
    y, found = (torch.from_numpy(x) - mean) / std, []
    for layer in network:
        y = layer(y)
        found.append(y.numpy())
    return found


def pooled(x: np.ndarray) -> np.ndarray:
    """Read-outs 3:2x2, 3:mean, 3:rms and 10:all, spelt out."""
    maps, last = outputs(x)[2].astype(np.float64), outputs(x)[9]
    n, channels, height, width = maps.shape
    parts = maps.reshape(n, channels, 2, height // 2, 2, width // 2)
    return np.concatenate(
        [
            parts.mean(axis=(3, 5)).reshape(n, -1),
            maps.mean(axis=(2, 3)),
            np.sqrt((maps**2).mean(axis=(2, 3))),
            last.reshape(n, -1),
        ],
        axis=1,
    )


@pytest.mark.parametrize("mirror", [False, True])
def test_a_row_is_its_read_outs_one_after_the_other(tmp_path: Path, mirror: bool) -> None:
    front = front_of(
        tmp_path / "net.safetensors", "3:2x2", "3:mean", "3:rms", "10:all", mirror=mirror
    )
    x = random_rows(9)
    expected = pooled(x)
    if mirror:
        expected = (expected + pooled(np.ascontiguousarray(x[..., ::-1]))) / 2
    assert front.output_shape == expected.shape[1:]
    assert np.allclose(front.apply(x), expected, atol=1e-5)
    assert not front.non_negative


def test_with_mirror_an_image_and_its_mirror_image_are_one_row(tmp_path: Path) -> None:
    front = front_of(tmp_path / "net.safetensors", "3:2x2", "10:all", mirror=True)
    x = random_rows(9)
    rows = front.apply(x)
    assert np.array_equal(rows, front.apply(np.ascontiguousarray(x[..., ::-1])))
    plain = front_of(tmp_path / "net.safetensors", "3:2x2", "10:all")
    assert not np.allclose(rows, plain.apply(x))


def test_a_row_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    front = front_of(tmp_path / "net.safetensors", "3:2x2", "6:rms", mirror=True)
    x = random_rows(150)
    whole = front.apply(x)
    assert np.array_equal(whole[140:], front.apply(x[140:]))
    assert np.array_equal(whole[[7]], front.apply(x[[7]]))


@pytest.mark.parametrize(
    ("texts", "sure"), [(["3:2x2", "3:rms"], True), (["10:all"], False), (["2:rms"], True)]
)
def test_rows_are_non_negative_where_every_read_out_is(
    tmp_path: Path, texts: list[str], sure: bool
) -> None:
    front = front_of(tmp_path / "net.safetensors", *texts)
    assert front.non_negative is sure
    assert not sure or float(front.apply(random_rows(50)).min()) >= 0


def test_layers_behind_the_last_read_out_are_not_kept(tmp_path: Path) -> None:
    front = front_of(tmp_path / "net.safetensors", "3:rms", "2:2x2")
    assert not any(name.startswith("0.9.") for name in front.front_tensors())
    assert "layers 0 to 2 of 10" in front.origin.text
    assert "read out at 3:rms 2:2x2" in front.origin.text


def test_the_stored_front_is_the_same_front(tmp_path: Path) -> None:
    front = front_of(tmp_path / "net.safetensors", "3:2x2", "10:all", mirror=True)
    again = restore_front(front.front_settings(), front.front_tensors())
    assert again == front
    assert np.array_equal(again.apply(random_rows(5)), front.apply(random_rows(5)))
    others = [
        front_of(tmp_path / "net.safetensors", "3:2x2", "10:all"),
        front_of(tmp_path / "net.safetensors", "10:all", "3:2x2", mirror=True),
        front_of(tmp_path / "net.safetensors"),
    ]
    assert front.digest.hex not in {other.digest.hex for other in others}


def test_what_cannot_be_pooled_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"10:mean cannot pool rows of shape \[5\]"):
        front_of(tmp_path / "net.safetensors", "10:mean")
    with pytest.raises(UsageError, match="a read-out lies behind 11"):
        front_of(tmp_path / "net.safetensors", "11:all")
    with pytest.raises(UsageError, match=r"only 4 layers .* a read-out lies behind 5"):
        front_of(tmp_path / "net.safetensors", "5:all", cut=4)


@pytest.mark.parametrize(
    "text", ["", "3", "3:max", "0:mean", "03:mean", "3:1x1", "3:2x3", "3:9x9", "3:mean "]
)
def test_a_text_that_is_no_read_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_read_out(text)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "identity"\nread_outs = ["3:mean"]', "read_outs needs front.kind"),
        ('kind = "identity"\nmirror = true', "mirror needs front.kind"),
        ('kind = "weights"\nweights = "net"\nread_outs = ["3:max"]', "'3:max' is no read-out"),
        (
            'kind = "weights"\nweights = "net"\ncut = 2\nread_outs = ["3:mean"]',
            "'3:mean' lies behind front.cut = 2",
        ),
        ("directions = 9", 'directions needs front.projection = "private-lda"'),
    ],
)
def test_a_job_with_an_impossible_read_out_is_refused(
    tmp_path: Path, lines: str, message: str
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(f'[data]\npath = "digits"\n[front]\n{lines}\n')
    with pytest.raises(UsageError, match=re.escape(message)):
        load_job(path)
